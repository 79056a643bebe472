from aigc_helpers.publishing.builder import (
    build as build,
)
