from aigc_helpers.publishing.api_page import (
    write_api_page as write_api_page,
)
from aigc_helpers.publishing.builder import (
    Built as Built,
)
from aigc_helpers.publishing.builder import (
    build as build,
)
from aigc_helpers.publishing.builder import (
    check as check,
)
from aigc_helpers.publishing.ranges import (
    RUNS as RUNS,
)
from aigc_helpers.publishing.ranges import (
    measure_ranges as measure_ranges,
)
from aigc_helpers.publishing.ranges import (
    range_problems as range_problems,
)
from aigc_helpers.publishing.runner import (
    ChapterResult as ChapterResult,
)
from aigc_helpers.publishing.runner import (
    Execution as Execution,
)
from aigc_helpers.publishing.runner import (
    closing_table as closing_table,
)
from aigc_helpers.publishing.runner import (
    run as run,
)
from aigc_helpers.publishing.source import (
    find_chapters as find_chapters,
)
