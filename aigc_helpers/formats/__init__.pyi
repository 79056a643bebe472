from aigc_helpers.formats.file_kinds import (
    FIRST_BYTES as FIRST_BYTES,
)
from aigc_helpers.formats.file_kinds import (
    GGUF as GGUF,
)
from aigc_helpers.formats.file_kinds import (
    HDF5 as HDF5,
)
from aigc_helpers.formats.file_kinds import (
    PICKLE_SUFFIXES as PICKLE_SUFFIXES,
)
from aigc_helpers.formats.file_kinds import (
    SAFETENSORS as SAFETENSORS,
)
from aigc_helpers.formats.file_kinds import (
    NotAWeightFileError as NotAWeightFileError,
)
from aigc_helpers.formats.file_kinds import (
    container_of as container_of,
)
from aigc_helpers.formats.gguf_file import (
    GgufFile as GgufFile,
)
from aigc_helpers.formats.gguf_file import (
    read_gguf as read_gguf,
)
from aigc_helpers.formats.keras_file import (
    KerasFile as KerasFile,
)
from aigc_helpers.formats.keras_file import (
    convert_keras_file as convert_keras_file,
)
from aigc_helpers.formats.keras_file import (
    read_keras_file as read_keras_file,
)
from aigc_helpers.formats.safe_names import (
    check_name as check_name,
)
from aigc_helpers.formats.safetensors_header import (
    MalformedFileError as MalformedFileError,
)
from aigc_helpers.formats.safetensors_header import (
    SafetensorsHeader as SafetensorsHeader,
)
from aigc_helpers.formats.safetensors_header import (
    quoted as quoted,
)
from aigc_helpers.formats.safetensors_header import (
    read_header as read_header,
)
from aigc_helpers.formats.safetensors_values import (
    count_non_finite as count_non_finite,
)
from aigc_helpers.formats.safetensors_values import (
    hash_file as hash_file,
)
from aigc_helpers.formats.safetensors_values import (
    read_number as read_number,
)
from aigc_helpers.formats.safetensors_values import (
    unchecked as unchecked,
)
from aigc_helpers.formats.safetensors_writing import (
    write_safetensors as write_safetensors,
)
from aigc_helpers.formats.torch_conversion import (
    convert_torch_file as convert_torch_file,
)
from aigc_helpers.formats.torch_file import (
    TorchFile as TorchFile,
)
from aigc_helpers.formats.torch_file import (
    read_torch_file as read_torch_file,
)
