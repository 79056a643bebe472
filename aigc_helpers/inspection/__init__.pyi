from aigc_helpers.inspection.adapter_facts import (
    AdapterFacts as AdapterFacts,
)
from aigc_helpers.inspection.adapter_keys import (
    KOHYA as KOHYA,
)
from aigc_helpers.inspection.adapter_keys import (
    PEFT as PEFT,
)
from aigc_helpers.inspection.adapter_keys import (
    PEFT_PREFIX as PEFT_PREFIX,
)
from aigc_helpers.inspection.adapter_keys import (
    Adapter as Adapter,
)
from aigc_helpers.inspection.adapter_keys import (
    AdapterModule as AdapterModule,
)
from aigc_helpers.inspection.adapter_keys import (
    Shaped as Shaped,
)
from aigc_helpers.inspection.adapter_keys import (
    sort_adapter_keys as sort_adapter_keys,
)
from aigc_helpers.inspection.adapter_settings import (
    ADAPTER_METADATA as ADAPTER_METADATA,
)
from aigc_helpers.inspection.adapter_settings import (
    HEADS as HEADS,
)
from aigc_helpers.inspection.adapter_settings import (
    Strength as Strength,
)
from aigc_helpers.inspection.adapter_settings import (
    changes_base as changes_base,
)
from aigc_helpers.inspection.adapter_settings import (
    initialisation_fault as initialisation_fault,
)
from aigc_helpers.inspection.adapter_settings import (
    missing_head as missing_head,
)
from aigc_helpers.inspection.adapter_settings import (
    settings_of as settings_of,
)
from aigc_helpers.inspection.adapter_settings import (
    strengths as strengths,
)
from aigc_helpers.inspection.adapter_settings import (
    targeted as targeted,
)
from aigc_helpers.inspection.compatibility import (
    Compatibility as Compatibility,
)
from aigc_helpers.inspection.compatibility import (
    compatibility_with as compatibility_with,
)
from aigc_helpers.inspection.contents import (
    ADAPTER_CONFIG as ADAPTER_CONFIG,
)
from aigc_helpers.inspection.contents import (
    USUAL_NAMES as USUAL_NAMES,
)
from aigc_helpers.inspection.contents import (
    Contents as Contents,
)
from aigc_helpers.inspection.contents import (
    read_contents as read_contents,
)
from aigc_helpers.inspection.description import (
    Inspection as Inspection,
)
from aigc_helpers.inspection.description import (
    describe as describe,
)
from aigc_helpers.inspection.family import (
    MINIATURE as MINIATURE,
)
from aigc_helpers.inspection.family import (
    ORIGINAL_UNET as ORIGINAL_UNET,
)
from aigc_helpers.inspection.family import (
    SD1 as SD1,
)
from aigc_helpers.inspection.family import (
    SD2 as SD2,
)
from aigc_helpers.inspection.family import (
    SDXL as SDXL,
)
from aigc_helpers.inspection.family import (
    declared_family as declared_family,
)
from aigc_helpers.inspection.family import (
    family_of_adapter as family_of_adapter,
)
from aigc_helpers.inspection.family import (
    family_of_model as family_of_model,
)
from aigc_helpers.inspection.training_metadata import (
    printable as printable,
)
