from aigc_helpers.inspection.adapter_facts import (
    EMPTY_MATRICES as EMPTY_MATRICES,
    AdapterFacts as AdapterFacts,
)
from aigc_helpers.inspection.adapter_keys import (
    COMFYUI_PREFIX as COMFYUI_PREFIX,
    KOHYA as KOHYA,
    PEFT as PEFT,
    PEFT_PREFIX as PEFT_PREFIX,
    PIPELINE_COMPONENTS as PIPELINE_COMPONENTS,
    Adapter as Adapter,
    AdapterModule as AdapterModule,
    Shaped as Shaped,
    sort_adapter_keys as sort_adapter_keys,
)
from aigc_helpers.inspection.adapter_parts import (
    adapter_of as adapter_of,
    read_alphas as read_alphas,
)
from aigc_helpers.inspection.adapter_settings import (
    ADAPTER_METADATA as ADAPTER_METADATA,
    GGUF_ALPHA as GGUF_ALPHA,
    HEADS as HEADS,
    RankAndAlpha as RankAndAlpha,
    changes_base as changes_base,
    initialisation_fault as initialisation_fault,
    missing_head as missing_head,
    names_known_library as names_known_library,
    settings_of as settings_of,
    strengths as strengths,
    targeted as targeted,
)
from aigc_helpers.inspection.compatibility import (
    Compatibility as Compatibility,
    compatibility_with as compatibility_with,
)
from aigc_helpers.inspection.contents import (
    ADAPTER_CONFIG as ADAPTER_CONFIG,
    CONFIG as CONFIG,
    Contents as Contents,
    read_contents as read_contents,
)
from aigc_helpers.inspection.description import (
    Inspection as Inspection,
    describe as describe,
)
from aigc_helpers.inspection.family import (
    CONTROLNET as CONTROLNET,
    HYPERNETWORK as HYPERNETWORK,
    IP_ADAPTER as IP_ADAPTER,
    MLX_ADAPTER as MLX_ADAPTER,
    ORIGINAL_UNET as ORIGINAL_UNET,
    T2I_ADAPTER as T2I_ADAPTER,
    UPSCALER as UPSCALER,
    VISION_ENCODER as VISION_ENCODER,
    added_part as added_part,
    declared_family as declared_family,
    draws as draws,
    families_in as families_in,
    family_of_adapter as family_of_adapter,
    family_of_model as family_of_model,
    family_of_type as family_of_type,
    may_be_same as may_be_same,
    pattern_of as pattern_of,
    possible_families as possible_families,
)
from aigc_helpers.inspection.family_table import (
    CLIP_LAYERS as CLIP_LAYERS,
    FLUX1 as FLUX1,
    MINIATURE as MINIATURE,
    REFINER as REFINER,
    SD1 as SD1,
    SD2 as SD2,
    SDXL as SDXL,
    STABLE_DIFFUSION_3 as STABLE_DIFFUSION_3,
    TRANSFORMER as TRANSFORMER,
    TRANSFORMER_LAYERS as TRANSFORMER_LAYERS,
    UNET_LAYERS as UNET_LAYERS,
)
from aigc_helpers.inspection.json_files import (
    read_object as read_object,
)
from aigc_helpers.inspection.training_metadata import (
    printable as printable,
)
from aigc_helpers.inspection.weight_sets import (
    USUAL_NAMES as USUAL_NAMES,
    is_index as is_index,
    name_of_set as name_of_set,
    sets_in as sets_in,
)
