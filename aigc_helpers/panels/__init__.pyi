from aigc_helpers.panels.attention import (
    AttentionPanel as AttentionPanel,
)
from aigc_helpers.panels.blind_vote import (
    BlindVotePanel as BlindVotePanel,
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
    Family as Family,
)
from aigc_helpers.panels.html_pictures import (
    img_element as img_element,
    png_of as png_of,
)
from aigc_helpers.panels.lora_mixer import (
    LoraMixerPanel as LoraMixerPanel,
)
from aigc_helpers.panels.picture import (
    PicturePanel as PicturePanel,
    PictureSettings as PictureSettings,
)
from aigc_helpers.panels.rank import (
    RankPanel as RankPanel,
    draw_ranks as draw_ranks,
    rank_summaries as rank_summaries,
)
from aigc_helpers.panels.sampling import (
    SamplingPanel as SamplingPanel,
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
    sweep_curves as sweep_curves,
)
from aigc_helpers.panels.translation import (
    TranslationPanel as TranslationPanel,
)
from aigc_helpers.panels.weight_files import (
    InspectorPanel as InspectorPanel,
    SizePanel as SizePanel,
)
