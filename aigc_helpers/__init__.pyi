from aigc_helpers.errors import (
    ReaderError as ReaderError,
    UnknownNameError as UnknownNameError,
    WrongUsageError as WrongUsageError,
)
from aigc_helpers.evaluation.evaluating import (
    evaluate as evaluate,
)
from aigc_helpers.generation import (
    generate as generate,
)
from aigc_helpers.inspection.description import (
    Inspection as Inspection,
)
from aigc_helpers.lora.conversion import (
    Conversion as Conversion,
    convert as convert,
)
from aigc_helpers.lora.loading import (
    LoadedAdapter as LoadedAdapter,
    load_adapter as load_adapter,
)
from aigc_helpers.lora.merging import (
    Merged as Merged,
    merge as merge,
)
from aigc_helpers.store.inspecting import (
    inspect as inspect,
)
from aigc_helpers.store.installing import (
    install as install,
)
from aigc_helpers.training.loop import (
    FitResult as FitResult,
    FitSettings as FitSettings,
    fit as fit,
)

from . import (
    evaluation as evaluation,
    formats as formats,
    images as images,
    inspection as inspection,
    lora as lora,
    metrics as metrics,
    notebook as notebook,
    panels as panels,
    publishing as publishing,
    store as store,
    text as text,
    training as training,
)
