from aigc_helpers.images.backgrounds import (
    BACKGROUNDS as BACKGROUNDS,
    alpha_composite as alpha_composite,
    background as background,
    caption as caption,
    nearest_colour as nearest_colour,
)
from aigc_helpers.images.captioned_pictures import (
    CaptionedPictures as CaptionedPictures,
)
from aigc_helpers.images.clip import (
    embed_captions as embed_captions,
    embed_pictures as embed_pictures,
    load_clip as load_clip,
)
from aigc_helpers.images.denoising import (
    LatentBatches as LatentBatches,
    denoising_loss as denoising_loss,
    encode_pictures as encode_pictures,
    latent_batches as latent_batches,
)
from aigc_helpers.images.emoji import (
    BASE_STYLES as BASE_STYLES,
    COLOURS as COLOURS,
    HELD_OUT_CONCEPTS as HELD_OUT_CONCEPTS,
    LANGUAGES as LANGUAGES,
    STYLES as STYLES,
    EmojiSet as EmojiSet,
    Facts as Facts,
    held_out_colours as held_out_colours,
    load_emoji as load_emoji,
    training_colours as training_colours,
)
from aigc_helpers.images.generate import (
    TRAINING_FILE as TRAINING_FILE,
    draw as draw,
    draw_many as draw_many,
    load_pipeline as load_pipeline,
    read_shown_in_training as read_shown_in_training,
    sd_folder as sd_folder,
)
from aigc_helpers.images.looks import (
    LOOKS as LOOKS,
    in_sepia as in_sepia,
)
from aigc_helpers.images.pixels import (
    to_array as to_array,
    to_pictures as to_pictures,
    to_pixels as to_pixels,
)
from aigc_helpers.images.prompts import (
    CAPTION_TOKENS as CAPTION_TOKENS,
    build_tokenizer as build_tokenizer,
    check_prompt as check_prompt,
)
from aigc_helpers.images.recipes import (
    ATTENTION as ATTENTION,
    BATCH_SIZE as BATCH_SIZE,
    CONCEPT as CONCEPT,
    CONVOLUTIONS as CONVOLUTIONS,
    LORA_FILE as LORA_FILE,
    SEPIA as SEPIA,
    TRIGGER_WORD as TRIGGER_WORD,
    PictureAdapterSettings as PictureAdapterSettings,
    fit_adapter as fit_adapter,
    is_picture_folder as is_picture_folder,
    pictures_for as pictures_for,
    save_picture_adapter as save_picture_adapter,
    train_picture_adapter as train_picture_adapter,
    unseen_concepts as unseen_concepts,
)
