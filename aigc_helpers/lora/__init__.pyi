from aigc_helpers.lora.conversion import (
    Conversion as Conversion,
    convert as convert,
)
from aigc_helpers.lora.gguf_merging import (
    MergedGguf as MergedGguf,
    merge_gguf as merge_gguf,
)
from aigc_helpers.lora.loading import (
    LoadedAdapter as LoadedAdapter,
    load_adapter as load_adapter,
)
from aigc_helpers.lora.merging import (
    Merged as Merged,
    Rounding as Rounding,
    merge as merge,
)
from aigc_helpers.lora.saved_modules import (
    MissingRowsError as MissingRowsError,
)
from aigc_helpers.lora.settings import (
    drop_null_settings as drop_null_settings,
)
