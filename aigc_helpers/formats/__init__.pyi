from aigc_helpers.formats.file_kinds import (
    FIRST_BYTES as FIRST_BYTES,
    GGUF as GGUF,
    HDF5 as HDF5,
    PICKLE_SUFFIXES as PICKLE_SUFFIXES,
    SAFETENSORS as SAFETENSORS,
    NotAWeightFileError as NotAWeightFileError,
    container_of as container_of,
)
from aigc_helpers.formats.gguf_file import (
    GgufFile as GgufFile,
    read_gguf as read_gguf,
)
from aigc_helpers.formats.gguf_writing import (
    Change as Change,
    copy_gguf as copy_gguf,
    encode_gguf as encode_gguf,
    write_gguf as write_gguf,
)
from aigc_helpers.formats.keras_file import (
    KerasFile as KerasFile,
    convert_keras_file as convert_keras_file,
    read_keras_file as read_keras_file,
)
from aigc_helpers.formats.safe_names import (
    UnstorableNameError as UnstorableNameError,
    check_name as check_name,
    storable_name as storable_name,
)
from aigc_helpers.formats.safetensors_header import (
    MalformedFileError as MalformedFileError,
    SafetensorsHeader as SafetensorsHeader,
    escaped as escaped,
    quoted as quoted,
    read_header as read_header,
)
from aigc_helpers.formats.safetensors_values import (
    count_non_finite as count_non_finite,
    dtypes_not_checked as dtypes_not_checked,
    hash_file as hash_file,
    read_numbers as read_numbers,
)
from aigc_helpers.formats.safetensors_writing import (
    write_safetensors as write_safetensors,
)
from aigc_helpers.formats.torch_conversion import (
    convert_torch_file as convert_torch_file,
)
from aigc_helpers.formats.torch_file import (
    ZIP_FAULTS as ZIP_FAULTS,
    LimitedFile as LimitedFile,
    TorchFile as TorchFile,
    read_torch_file as read_torch_file,
)
