from aigc_helpers.evaluation.adapter_trial import (
    AdapterTrial as AdapterTrial,
)
from aigc_helpers.evaluation.clip import (
    clip_score as clip_score,
)
from aigc_helpers.evaluation.drawings import (
    References as References,
    judge as judge,
)
from aigc_helpers.evaluation.evaluating import (
    MODELS as MODELS,
    evaluate as evaluate,
)
from aigc_helpers.evaluation.picture_adapters import (
    evaluate_picture_adapter as evaluate_picture_adapter,
)
from aigc_helpers.evaluation.poet import (
    share_in_form as share_in_form,
)
from aigc_helpers.evaluation.sd import (
    GUIDANCE as GUIDANCE,
)
from aigc_helpers.evaluation.t5 import (
    evaluate_translator as evaluate_translator,
)
from aigc_helpers.evaluation.whole_book import (
    format_book as format_book,
)
