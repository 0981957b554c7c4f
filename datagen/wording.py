"""The words of Toyland's instructions: what attributes are called, and the sentences around the marks.

Slots of a sentence: {base} the mark of the picture to edit; {what} what is asked for, in words or as a mark;
{old} what a replacement takes away. Tails continue a sentence, so they bring their own joint.
"""

STYLE_NAMES = {
    "flat": ("a flat drawing", "a flat picture", "a flat colour drawing"),
    "pastel": ("a pastel drawing", "a pastel picture", "a soft pastel drawing"),
    "ink": ("an ink drawing", "an ink picture", "a drawing in ink"),
}
WEATHER_NOUNS = {"sunny": "sunshine", "rain": "rain", "snow": "snow", "night": "night"}
# What a text reference says; the words are those that the captions and descriptions of scenes use.
WEATHER_TEXTS = {
    "sunny": ("sunshine", "a sunny day", "a bright sun"),
    "rain": ("rain", "a rainy day", "rain clouds"),
    "snow": ("snow", "a snowy day", "falling snow"),
    "night": ("night", "the dark", "the moon and stars"),
}
STYLE_TEXTS = {
    "flat": ("flat style", "flat colours", "a flat drawing", "a flat picture"),
    "pastel": ("pastel style", "pastel colours", "a pastel drawing", "a pastel picture"),
    "ink": ("ink style", "ink", "an ink drawing", "an ink picture"),
}
WEATHER_ADJECTIVES = {
    "sunny": ("sunny", "bright and sunny"),
    "rain": ("rainy", "wet and rainy"),
    "snow": ("snowy", "white and snowy"),
    "night": ("dark as night", "dark and starry"),
}
WEATHER_VERBS = {"sunny": "become sunny", "rain": "rain", "snow": "snow", "night": "become night"}
WEATHER_PLACES = {
    "sunny": ("in the sunshine", "on a sunny day"),
    "rain": ("in the rain", "on a rainy day"),
    "snow": ("in the snow", "on a snowy day"),
    "night": ("at night", "in the night"),
}

# How a mark stands for a subject; the bare mark is the most common.
SUBJECT_MARKS = {
    "image": ("{mark}", "{mark}", "{mark}", "what is in {mark}", "the one in {mark}", "what you see in {mark}"),
    "audio": ("{mark}", "{mark}", "{mark}", "what you hear in {mark}", "what makes the sound in {mark}"),
    "text": ("{mark}",),
}

ADD = (
    "add {what} to {base}",
    "put {what} into {base}",
    "place {what} in {base}",
    "insert {what} into {base}",
    "take {base} and add {what}",
    "{base} with {what} in it",
    "in {base}, add {what}",
    "let {what} appear in {base}",
    "i want to see {what} in {base}",
    "show {base} again, but with {what} in it",
    "draw {what} into {base} and keep the rest of {base}",
)
ADD_TAILS = (
    " and add {what}",
    ", then put {what} into it",
    " and place {what} in it",
    ", with {what} in it",
    "; also add {what}",
)

REMOVE = (
    "remove {what} from {base}",
    "take {what} out of {base}",
    "erase {what} from {base}",
    "delete {what} from {base}",
    "{base} without {what}",
    "get rid of {what} in {base}",
    "in {base}, remove {what}",
    "make {what} disappear from {base}",
    "show {base} again, but without {what}",
    "clear {what} away and keep the rest of {base}",
)
REMOVE_TAILS = (
    " and remove {what}",
    ", then take {what} out",
    ", without {what}",
    "; also erase {what}",
    " and get rid of {what}",
)

REPLACE = (
    "replace {old} in {base} with {what}",
    "swap {old} in {base} for {what}",
    "turn {old} in {base} into {what}",
    "change {old} in {base} to {what}",
    "{base} with {what} instead of {old}",
    "in {base}, exchange {old} for {what}",
    "put {what} in the place of {old} in {base}",
    "let {what} take the place of {old} in {base}",
    "take {old} out of {base} and put {what} there",
    "show {base} again, but with {what} in place of {old}",
)
REPLACE_TAILS = (
    " and replace {old} with {what}",
    ", with {what} instead of {old}",
    ", then swap {old} for {what}",
    "; also turn {old} into {what}",
    " and put {what} in the place of {old}",
)

STYLE_BY_MARK = (
    "{base} in the style of {what}",
    "draw {base} in the style of {what}",
    "redraw {base} the way {what} is drawn",
    "make {base} look drawn like {what}",
    "give {base} the drawing style of {what}",
    "apply the style of {what} to {base}",
    "transfer the style of {what} onto {base}",
    "use the style of {what} for {base}",
    "keep what {base} shows, but draw it in the style of {what}",
)
STYLE_BY_MARK_TAILS = (
    " in the style of {what}",
    ", drawn like {what}",
    " and give it the style of {what}",
    ", then redraw it the way {what} is drawn",
    " and use the drawing style of {what}",
)
STYLE_BY_WORD = (
    "{base} as {what}",
    "draw {base} as {what}",
    "redraw {base} as {what}",
    "turn {base} into {what}",
    "make {base} {what}",
    "change the style of {base} to {what}",
    "{base} in the style of {what}",
    "i want {base} to be {what}",
    "make {base} look like {what}",
)
STYLE_BY_WORD_TAILS = (
    " as {what}",
    ", drawn as {what}",
    " and turn it into {what}",
    " in the style of {what}",
    ", then redraw it as {what}",
)

ATMOSPHERE_BY_MARK = (
    "fit {base} to the mood of {what}",
    "give {base} the weather of {what}",
    "make {base} feel like {what}",
    "change the atmosphere of {base} to that of {what}",
    "let {base} have the atmosphere of {what}",
    "{base} with the weather of {what}",
    "match the mood of {base} to {what}",
    "bring the atmosphere of {what} to {base}",
    "{base}, but in the mood of {what}",
)
ATMOSPHERE_BY_MARK_TAILS = (
    " and fit it to the mood of {what}",
    ", with the weather of {what}",
    ", then give it the atmosphere of {what}",
    " and let it feel like {what}",
    " in the mood of {what}",
)
# A sound or a word of the weather can also be "added": nothing but the reference tells it from a subject.
ATMOSPHERE_BY_SOUND = ATMOSPHERE_BY_MARK + (
    "add {what} to {base}",
    "let {base} sound like {what}",
    "{base} as it looks when you hear {what}",
)
ATMOSPHERE_BY_SOUND_TAILS = ATMOSPHERE_BY_MARK_TAILS + (" and add {what}", " so that it sounds like {what}")
ATMOSPHERE_BY_WORD = (
    "make {base} {adjective}",
    "turn {base} {adjective}",
    "let it {verb} in {base}",
    "make it {verb} in {base}",
    "{base} {place}",
    "show {base} {place}",
    "add {noun} to {base}",
    "change the weather of {base} to {noun}",
    "fit {base} to a mood of {noun}",
)
ATMOSPHERE_BY_WORD_TAILS = (
    " and make it {verb}",
    " and let it {verb}",
    ", {place}",
    ", then make it {adjective}",
    " and change the weather to {noun}",
)

GENERATE = (
    "paint {what}",
    "draw {what}",
    "create a picture of {what}",
    "a picture of {what}",
    "make a new image of {what}",
    "show me {what}",
    "imagine {what}",
    "generate {what}",
    "i would like to see {what}",
)
# A picture whose subject is to be painted anew is no base: the words must tell, "draw [image1] as an ink drawing" is an
# edit.
GENERATE_FROM_IMAGE = (
    "paint a new picture of {what}",
    "draw a new picture of {what}",
    "create a new scene with {what}",
    "a new picture of {what}",
    "make a new image of {what}",
    "show me {what} in a new picture",
    "imagine a new scene with {what}",
    "generate a new picture with {what}",
)
GENERATE_MARKS = {
    "image": ("what is in {mark}", "the one in {mark}", "the subject of {mark}"),
    "audio": ("{mark}", "what you hear in {mark}", "what makes the sound in {mark}"),
    "text": ("{mark}",),
}
GENERATE_ATMOSPHERE = (" in the mood of {what}", " with the weather of {what}", ", with the atmosphere of {what}")
GENERATE_STYLE_BY_MARK = (" in the style of {what}", ", drawn like {what}")
GENERATE_STYLE_BY_WORD = (" as {what}", ", drawn as {what}", " in the style of {what}")
