from aigc_helpers.store.addresses import (
    install_address as install_address,
)
from aigc_helpers.store.assets import (
    install_asset as install_asset,
    is_bundled as is_bundled,
    is_here as is_here,
)
from aigc_helpers.store.bundles import (
    bundle as bundle,
    install_bundle as install_bundle,
)
from aigc_helpers.store.catalog import (
    find_asset as find_asset,
    load_catalog as load_catalog,
)
from aigc_helpers.store.http_faults import (
    without_secrets as without_secrets,
)
from aigc_helpers.store.hub import (
    refusal_under as refusal_under,
)
from aigc_helpers.store.inspecting import (
    inspect as inspect,
)
from aigc_helpers.store.installing import (
    install as install,
    install_any as install_any,
)
from aigc_helpers.store.layouts import (
    LAYOUTS as LAYOUTS,
    OUR_OWN as OUR_OWN,
)
from aigc_helpers.store.local_files import (
    InstalledFile as InstalledFile,
    install_file as install_file,
)
from aigc_helpers.store.local_folders import (
    install_folder as install_folder,
)
from aigc_helpers.store.location import (
    store_folder as store_folder,
)
from aigc_helpers.store.transfer import (
    download as download,
)
