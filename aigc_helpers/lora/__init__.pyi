from aigc_helpers.lora.conversion import (
    Conversion as Conversion,
)
from aigc_helpers.lora.conversion import (
    convert as convert,
)
from aigc_helpers.lora.loading import (
    LoadedAdapter as LoadedAdapter,
)
from aigc_helpers.lora.loading import (
    load_adapter as load_adapter,
)
from aigc_helpers.lora.merging import (
    Merged as Merged,
)
from aigc_helpers.lora.saved_modules import (
    MissingRowsError as MissingRowsError,
)
from aigc_helpers.lora.settings import (
    without_empty as without_empty,
)
