from aigc_helpers.training.log import (
    read_log as read_log,
)
from aigc_helpers.training.loop import (
    FitResult as FitResult,
    FitSettings as FitSettings,
    MakeOptimizer as MakeOptimizer,
    adamw as adamw,
    fit as fit,
)
from aigc_helpers.training.memory import (
    MemoryEstimate as MemoryEstimate,
    estimate_memory as estimate_memory,
)
from aigc_helpers.training.random_state import (
    random_state_kept as random_state_kept,
)
from aigc_helpers.training.sweep import (
    Row as Row,
    run_sweep as run_sweep,
)
