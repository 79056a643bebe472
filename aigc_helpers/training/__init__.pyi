from aigc_helpers.training.log import (
    read_log as read_log,
)
from aigc_helpers.training.loop import (
    FitResult as FitResult,
)
from aigc_helpers.training.loop import (
    FitSettings as FitSettings,
)
from aigc_helpers.training.loop import (
    MakeOptimizer as MakeOptimizer,
)
from aigc_helpers.training.loop import (
    adamw as adamw,
)
from aigc_helpers.training.loop import (
    fit as fit,
)
from aigc_helpers.training.random_state import (
    random_state_kept as random_state_kept,
)
from aigc_helpers.training.sweep import (
    Row as Row,
)
from aigc_helpers.training.sweep import (
    run_sweep as run_sweep,
)
