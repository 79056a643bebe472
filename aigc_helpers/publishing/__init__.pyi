from aigc_helpers.publishing.api_page import (
    write_api_page as write_api_page,
)
from aigc_helpers.publishing.builder import (
    Built as Built,
    build as build,
    check as check,
)
from aigc_helpers.publishing.ranges import (
    RUNS as RUNS,
    measure_ranges as measure_ranges,
    range_problems as range_problems,
)
from aigc_helpers.publishing.runner import (
    ChapterResult as ChapterResult,
    Execution as Execution,
    closing_table as closing_table,
    run as run,
)
from aigc_helpers.publishing.source import (
    find_chapters as find_chapters,
)
