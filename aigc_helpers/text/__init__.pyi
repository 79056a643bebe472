from aigc_helpers.text.batches import (
    LengthBatches as LengthBatches,
)
from aigc_helpers.text.batches import (
    TextBatch as TextBatch,
)
from aigc_helpers.text.batches import (
    pad_batch as pad_batch,
)
from aigc_helpers.text.classification import (
    classification_loss as classification_loss,
)
from aigc_helpers.text.classification import (
    predict_classes as predict_classes,
)
from aigc_helpers.text.classification import (
    predict_logits as predict_logits,
)
from aigc_helpers.text.forms import (
    in_lines as in_lines,
)
from aigc_helpers.text.forms import (
    line_lengths as line_lengths,
)
from aigc_helpers.text.forms import (
    load_forms as load_forms,
)
from aigc_helpers.text.forms import (
    load_known_texts as load_known_texts,
)
from aigc_helpers.text.generate import (
    load_poet as load_poet,
)
from aigc_helpers.text.generate import (
    write_poems as write_poems,
)
from aigc_helpers.text.language_modelling import (
    mean_loss as mean_loss,
)
from aigc_helpers.text.language_modelling import (
    next_token_loss as next_token_loss,
)
from aigc_helpers.text.numerals import (
    CAPITAL_DIGITS as CAPITAL_DIGITS,
)
from aigc_helpers.text.numerals import (
    CAPITAL_TENS as CAPITAL_TENS,
)
from aigc_helpers.text.numerals import (
    EVERYDAY_DIGITS as EVERYDAY_DIGITS,
)
from aigc_helpers.text.numerals import (
    EVERYDAY_TENS as EVERYDAY_TENS,
)
from aigc_helpers.text.numerals import (
    figures_amount as figures_amount,
)
from aigc_helpers.text.numerals import (
    parse_capital_amount as parse_capital_amount,
)
from aigc_helpers.text.poems import (
    MARKS as MARKS,
)
from aigc_helpers.text.poems import (
    load_poems as load_poems,
)
from aigc_helpers.text.poems import (
    load_regular_shi as load_regular_shi,
)
from aigc_helpers.text.poems import (
    parse_poem as parse_poem,
)
from aigc_helpers.text.poems import (
    poem_line_lengths as poem_line_lengths,
)
from aigc_helpers.text.poems import (
    poem_token_ids as poem_token_ids,
)
from aigc_helpers.text.poems import (
    run_on as run_on,
)
from aigc_helpers.text.recipe_settings import (
    REVIEWS as REVIEWS,
)
from aigc_helpers.text.recipe_settings import (
    TUNE as TUNE,
)
from aigc_helpers.text.recipe_settings import (
    TextAdapterSettings as TextAdapterSettings,
)
from aigc_helpers.text.recipes import (
    REVIEW_SNIPPETS as REVIEW_SNIPPETS,
)
from aigc_helpers.text.recipes import (
    save_adapter as save_adapter,
)
from aigc_helpers.text.recipes import (
    train_review_adapter as train_review_adapter,
)
from aigc_helpers.text.recipes import (
    train_tune_adapter as train_tune_adapter,
)
from aigc_helpers.text.recipes import (
    tune_line_lengths as tune_line_lengths,
)
from aigc_helpers.text.reviews import (
    LABEL_NAMES as LABEL_NAMES,
)
from aigc_helpers.text.reviews import (
    load_reviews as load_reviews,
)
from aigc_helpers.text.translation import (
    PREFIXES as PREFIXES,
)
from aigc_helpers.text.translation import (
    Example as Example,
)
from aigc_helpers.text.translation import (
    TranslationBatches as TranslationBatches,
)
from aigc_helpers.text.translation import (
    draw_pairs as draw_pairs,
)
from aigc_helpers.text.translation import (
    to_examples as to_examples,
)
from aigc_helpers.text.translator import (
    load_translator as load_translator,
)
from aigc_helpers.text.translator import (
    translate as translate,
)
