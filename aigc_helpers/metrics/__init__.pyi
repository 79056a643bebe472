from aigc_helpers.metrics.calibration import (
    calibration_error as calibration_error,
)
from aigc_helpers.metrics.calibration import (
    fit_temperature as fit_temperature,
)
from aigc_helpers.metrics.calibration import (
    reliability_bins as reliability_bins,
)
from aigc_helpers.metrics.classification import (
    F1 as F1,
)
from aigc_helpers.metrics.classification import (
    Accuracy as Accuracy,
)
from aigc_helpers.metrics.classification import (
    Precision as Precision,
)
from aigc_helpers.metrics.classification import (
    Recall as Recall,
)
from aigc_helpers.metrics.diversity import (
    distinct_n as distinct_n,
)
from aigc_helpers.metrics.diversity import (
    repetition as repetition,
)
from aigc_helpers.metrics.intervals import (
    Interval as Interval,
)
from aigc_helpers.metrics.intervals import (
    accuracy_interval as accuracy_interval,
)
from aigc_helpers.metrics.intervals import (
    bootstrap_interval as bootstrap_interval,
)
from aigc_helpers.metrics.intervals import (
    compare_paired as compare_paired,
)
from aigc_helpers.metrics.intervals import (
    mcnemar as mcnemar,
)
from aigc_helpers.metrics.intervals import (
    share_of as share_of,
)
from aigc_helpers.metrics.intervals import (
    wilson_interval as wilson_interval,
)
from aigc_helpers.metrics.kneser_ney import (
    KneserNey as KneserNey,
)
from aigc_helpers.metrics.language_models import (
    bits_per_character as bits_per_character,
)
from aigc_helpers.metrics.language_models import (
    perplexity as perplexity,
)
from aigc_helpers.metrics.multiple_testing import (
    adjust_p_values as adjust_p_values,
)
from aigc_helpers.metrics.picture_coverage import (
    nearest as nearest,
)
from aigc_helpers.metrics.picture_coverage import (
    precision_and_recall as precision_and_recall,
)
from aigc_helpers.metrics.picture_distances import (
    fid as fid,
)
from aigc_helpers.metrics.picture_distances import (
    frechet_distance as frechet_distance,
)
from aigc_helpers.metrics.picture_distances import (
    kid as kid,
)
from aigc_helpers.metrics.picture_distances import (
    kid_interval as kid_interval,
)
from aigc_helpers.metrics.refusals import (
    check_pairs as check_pairs,
)
from aigc_helpers.metrics.translation import (
    compare_bleu as compare_bleu,
)
from aigc_helpers.metrics.translation import (
    score_translations as score_translations,
)
from aigc_helpers.metrics.votes import (
    LOSS as LOSS,
)
from aigc_helpers.metrics.votes import (
    TIE as TIE,
)
from aigc_helpers.metrics.votes import (
    WIN as WIN,
)
from aigc_helpers.metrics.votes import (
    win_rate as win_rate,
)
