from aigc_helpers.text.batches import (
    LengthBatches as LengthBatches,
    TextBatch as TextBatch,
    pad_batch as pad_batch,
)
from aigc_helpers.text.classification import (
    classification_loss as classification_loss,
    predict_classes as predict_classes,
    predict_logits as predict_logits,
)
from aigc_helpers.text.forms import (
    in_lines as in_lines,
    line_lengths as line_lengths,
    load_forms as load_forms,
    load_known_texts as load_known_texts,
)
from aigc_helpers.text.generate import (
    load_poet as load_poet,
    write_poems as write_poems,
)
from aigc_helpers.text.language_modelling import (
    mean_loss as mean_loss,
    next_token_loss as next_token_loss,
)
from aigc_helpers.text.numerals import (
    CAPITAL_DIGITS as CAPITAL_DIGITS,
    CAPITAL_TENS as CAPITAL_TENS,
    EVERYDAY_DIGITS as EVERYDAY_DIGITS,
    EVERYDAY_TENS as EVERYDAY_TENS,
    figures_amount as figures_amount,
    parse_capital_amount as parse_capital_amount,
)
from aigc_helpers.text.poems import (
    MARKS as MARKS,
    load_poems as load_poems,
    load_regular_shi as load_regular_shi,
    parse_poem as parse_poem,
    poem_line_lengths as poem_line_lengths,
    poem_token_ids as poem_token_ids,
    run_on as run_on,
)
from aigc_helpers.text.recipe_settings import (
    REVIEWS as REVIEWS,
    TUNE as TUNE,
    TextAdapterSettings as TextAdapterSettings,
)
from aigc_helpers.text.recipes import (
    REVIEW_SNIPPETS as REVIEW_SNIPPETS,
    save_adapter as save_adapter,
    train_review_adapter as train_review_adapter,
    train_tune_adapter as train_tune_adapter,
    tune_line_lengths as tune_line_lengths,
)
from aigc_helpers.text.reviews import (
    LABEL_NAMES as LABEL_NAMES,
    load_reviews as load_reviews,
)
from aigc_helpers.text.translation import (
    PREFIXES as PREFIXES,
    Example as Example,
    TranslationBatches as TranslationBatches,
    draw_pairs as draw_pairs,
    to_examples as to_examples,
)
from aigc_helpers.text.translator import (
    load_translator as load_translator,
    translate as translate,
)
