from aigc_helpers.images.backgrounds import (
    BACKGROUNDS as BACKGROUNDS,
)
from aigc_helpers.images.backgrounds import (
    background as background,
)
from aigc_helpers.images.backgrounds import (
    caption as caption,
)
from aigc_helpers.images.backgrounds import (
    lay_on as lay_on,
)
from aigc_helpers.images.backgrounds import (
    nearest_colour as nearest_colour,
)
from aigc_helpers.images.captioned_pictures import (
    CaptionedPictures as CaptionedPictures,
)
from aigc_helpers.images.clip import (
    embed_captions as embed_captions,
)
from aigc_helpers.images.clip import (
    embed_pictures as embed_pictures,
)
from aigc_helpers.images.clip import (
    load_clip as load_clip,
)
from aigc_helpers.images.denoising import (
    LatentBatches as LatentBatches,
)
from aigc_helpers.images.denoising import (
    denoising_loss as denoising_loss,
)
from aigc_helpers.images.denoising import (
    encode_pictures as encode_pictures,
)
from aigc_helpers.images.denoising import (
    latent_batches as latent_batches,
)
from aigc_helpers.images.emoji import (
    BASE_STYLES as BASE_STYLES,
)
from aigc_helpers.images.emoji import (
    COLOURS as COLOURS,
)
from aigc_helpers.images.emoji import (
    HELD_OUT_CONCEPTS as HELD_OUT_CONCEPTS,
)
from aigc_helpers.images.emoji import (
    LANGUAGES as LANGUAGES,
)
from aigc_helpers.images.emoji import (
    STYLES as STYLES,
)
from aigc_helpers.images.emoji import (
    EmojiSet as EmojiSet,
)
from aigc_helpers.images.emoji import (
    Facts as Facts,
)
from aigc_helpers.images.emoji import (
    held_out_colours as held_out_colours,
)
from aigc_helpers.images.emoji import (
    load_emoji as load_emoji,
)
from aigc_helpers.images.emoji import (
    training_colours as training_colours,
)
from aigc_helpers.images.generate import (
    TRAINING_FILE as TRAINING_FILE,
)
from aigc_helpers.images.generate import (
    draw as draw,
)
from aigc_helpers.images.generate import (
    draw_many as draw_many,
)
from aigc_helpers.images.generate import (
    load_pipeline as load_pipeline,
)
from aigc_helpers.images.generate import (
    read_shown_in_training as read_shown_in_training,
)
from aigc_helpers.images.generate import (
    sd_folder as sd_folder,
)
from aigc_helpers.images.looks import (
    LOOKS as LOOKS,
)
from aigc_helpers.images.looks import (
    in_sepia as in_sepia,
)
from aigc_helpers.images.pixels import (
    to_array as to_array,
)
from aigc_helpers.images.pixels import (
    to_pictures as to_pictures,
)
from aigc_helpers.images.pixels import (
    to_pixels as to_pixels,
)
from aigc_helpers.images.prompts import (
    CAPTION_TOKENS as CAPTION_TOKENS,
)
from aigc_helpers.images.prompts import (
    build_tokenizer as build_tokenizer,
)
from aigc_helpers.images.prompts import (
    check_prompt as check_prompt,
)
from aigc_helpers.images.recipes import (
    ATTENTION as ATTENTION,
)
from aigc_helpers.images.recipes import (
    BATCH_SIZE as BATCH_SIZE,
)
from aigc_helpers.images.recipes import (
    CONCEPT as CONCEPT,
)
from aigc_helpers.images.recipes import (
    CONVOLUTIONS as CONVOLUTIONS,
)
from aigc_helpers.images.recipes import (
    LORA_FILE as LORA_FILE,
)
from aigc_helpers.images.recipes import (
    SEPIA as SEPIA,
)
from aigc_helpers.images.recipes import (
    TRIGGER_WORD as TRIGGER_WORD,
)
from aigc_helpers.images.recipes import (
    PictureAdapterSettings as PictureAdapterSettings,
)
from aigc_helpers.images.recipes import (
    fit_adapter as fit_adapter,
)
from aigc_helpers.images.recipes import (
    is_picture_folder as is_picture_folder,
)
from aigc_helpers.images.recipes import (
    pictures_for as pictures_for,
)
from aigc_helpers.images.recipes import (
    save_picture_adapter as save_picture_adapter,
)
from aigc_helpers.images.recipes import (
    train_picture_adapter as train_picture_adapter,
)
from aigc_helpers.images.recipes import (
    unseen_concepts as unseen_concepts,
)
