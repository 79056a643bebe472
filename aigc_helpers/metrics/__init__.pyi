from aigc_helpers.metrics.calibration import (
    calibration_error as calibration_error,
    fit_temperature as fit_temperature,
    reliability_bins as reliability_bins,
)
from aigc_helpers.metrics.classification import (
    F1 as F1,
    Accuracy as Accuracy,
    Precision as Precision,
    Recall as Recall,
)
from aigc_helpers.metrics.diversity import (
    distinct_n as distinct_n,
    repetition as repetition,
)
from aigc_helpers.metrics.intervals import (
    Interval as Interval,
    accuracy_interval as accuracy_interval,
    bootstrap_interval as bootstrap_interval,
    compare_paired as compare_paired,
    mcnemar as mcnemar,
    proportion_interval as proportion_interval,
    wilson_interval as wilson_interval,
)
from aigc_helpers.metrics.kneser_ney import (
    KneserNey as KneserNey,
)
from aigc_helpers.metrics.language_models import (
    bits_per_character as bits_per_character,
    perplexity as perplexity,
)
from aigc_helpers.metrics.multiple_testing import (
    adjust_p_values as adjust_p_values,
)
from aigc_helpers.metrics.picture_coverage import (
    nearest as nearest,
    precision_and_recall as precision_and_recall,
)
from aigc_helpers.metrics.picture_distances import (
    fid as fid,
    frechet_distance as frechet_distance,
    kid as kid,
    kid_interval as kid_interval,
)
from aigc_helpers.metrics.refusals import (
    check_pairs as check_pairs,
)
from aigc_helpers.metrics.translation import (
    compare_bleu as compare_bleu,
    score_translations as score_translations,
)
from aigc_helpers.metrics.votes import (
    LOSS as LOSS,
    TIE as TIE,
    WIN as WIN,
    win_rate as win_rate,
)
