from aigc_helpers.notebook.checks import (
    MEASURE_VARIABLE as MEASURE_VARIABLE,
    RECORD_VARIABLE as RECORD_VARIABLE,
    expect as expect,
    expect_close as expect_close,
    expect_equal as expect_equal,
)
from aigc_helpers.notebook.claims import (
    FALSE as FALSE,
    HALF_TRUE as HALF_TRUE,
    TRUE as TRUE,
    Claim as Claim,
    Claims as Claims,
    claims_of_chapter as claims_of_chapter,
    runs as runs,
)
from aigc_helpers.notebook.exercises import (
    Exercise as Exercise,
    Mistake as Mistake,
    Test as Test,
    Text as Text,
    check_exercise as check_exercise,
    gives as gives,
    is_value as is_value,
)
from aigc_helpers.notebook.keeping import (
    drive_folder as drive_folder,
    offer_download as offer_download,
)
from aigc_helpers.notebook.loopback_hub import (
    LoopbackHub as LoopbackHub,
)
from aigc_helpers.notebook.lora_configurations import (
    is_a_lora_config as is_a_lora_config,
    target_modules as target_modules,
)
from aigc_helpers.notebook.setup import (
    prepare as prepare,
)
