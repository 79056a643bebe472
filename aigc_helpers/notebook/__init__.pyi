from aigc_helpers.notebook.checks import (
    MEASURE_VARIABLE as MEASURE_VARIABLE,
)
from aigc_helpers.notebook.checks import (
    RECORD_VARIABLE as RECORD_VARIABLE,
)
from aigc_helpers.notebook.checks import (
    expect as expect,
)
from aigc_helpers.notebook.checks import (
    expect_close as expect_close,
)
from aigc_helpers.notebook.checks import (
    expect_equal as expect_equal,
)
from aigc_helpers.notebook.claims import (
    FALSE as FALSE,
)
from aigc_helpers.notebook.claims import (
    HALF_TRUE as HALF_TRUE,
)
from aigc_helpers.notebook.claims import (
    TRUE as TRUE,
)
from aigc_helpers.notebook.claims import (
    Claim as Claim,
)
from aigc_helpers.notebook.claims import (
    Claims as Claims,
)
from aigc_helpers.notebook.claims import (
    claims_of_chapter as claims_of_chapter,
)
from aigc_helpers.notebook.claims import (
    runs as runs,
)
from aigc_helpers.notebook.exercises import (
    Exercise as Exercise,
)
from aigc_helpers.notebook.exercises import (
    Mistake as Mistake,
)
from aigc_helpers.notebook.exercises import (
    Test as Test,
)
from aigc_helpers.notebook.exercises import (
    Text as Text,
)
from aigc_helpers.notebook.exercises import (
    check_exercise as check_exercise,
)
from aigc_helpers.notebook.exercises import (
    gives as gives,
)
from aigc_helpers.notebook.exercises import (
    is_value as is_value,
)
from aigc_helpers.notebook.loopback_hub import (
    LoopbackHub as LoopbackHub,
)
from aigc_helpers.notebook.lora_configurations import (
    is_a_lora_config as is_a_lora_config,
)
from aigc_helpers.notebook.lora_configurations import (
    target_modules as target_modules,
)
from aigc_helpers.notebook.setup import (
    prepare as prepare,
)
