from aigc_helpers.panels.attention import (
    AttentionPanel as AttentionPanel,
)
from aigc_helpers.panels.blind_vote import (
    BlindVotePanel as BlindVotePanel,
)
from aigc_helpers.panels.blind_vote import (
    blind_trials as blind_trials,
)
from aigc_helpers.panels.claims import (
    ClaimsPanel as ClaimsPanel,
)
from aigc_helpers.panels.diffusion import (
    DiffusionPanel as DiffusionPanel,
)
from aigc_helpers.panels.families import (
    FamiliesPanel as FamiliesPanel,
)
from aigc_helpers.panels.families import (
    Family as Family,
)
from aigc_helpers.panels.html_pictures import (
    img_element as img_element,
)
from aigc_helpers.panels.html_pictures import (
    png_of as png_of,
)
from aigc_helpers.panels.lora_mixer import (
    LoraMixerPanel as LoraMixerPanel,
)
from aigc_helpers.panels.picture import (
    PicturePanel as PicturePanel,
)
from aigc_helpers.panels.picture import (
    PictureSettings as PictureSettings,
)
from aigc_helpers.panels.rank import (
    RankPanel as RankPanel,
)
from aigc_helpers.panels.rank import (
    draw_ranks as draw_ranks,
)
from aigc_helpers.panels.rank import (
    rank_summaries as rank_summaries,
)
from aigc_helpers.panels.sampling import (
    SamplingPanel as SamplingPanel,
)
from aigc_helpers.panels.sampling import (
    sampling_distribution as sampling_distribution,
)
from aigc_helpers.panels.scale import (
    ScalePanel as ScalePanel,
)
from aigc_helpers.panels.sentence import (
    SentencePanel as SentencePanel,
)
from aigc_helpers.panels.sweep import (
    SweepPanel as SweepPanel,
)
from aigc_helpers.panels.sweep import (
    sweep_curves as sweep_curves,
)
from aigc_helpers.panels.translation import (
    TranslationPanel as TranslationPanel,
)
from aigc_helpers.panels.weight_files import (
    InspectorPanel as InspectorPanel,
)
from aigc_helpers.panels.weight_files import (
    SizePanel as SizePanel,
)
