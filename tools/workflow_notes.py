"""What the notes in the example workflows say, in plain words for artists. Markdown."""

MINIATURE = """
The **Load ...** nodes in purple say *miniature*: small networks that come with the pack and run on any computer.
They know one little world of 128 x 128 pictures. For your own pictures put the full weights in their place (see the README)."""

NOTES = {
    "edit_with_sound": f"""# Edit a picture with a sound

You bring a picture and a sound, and write what to do. `[image1]` and `[audio1]` in the instruction stand for them.

1. **What you bring** is turned into embeddings: pictures, sounds and words in one shared language.
2. **What you ask for**: the language model reads your sentence and says below it what the result will be.
3. **What the result shows**: the prior makes the prediction cleaner; *Embedding Mix* weighs the two. **guidance** is 3 for the miniature; the full weights were published with 10.
4. **The picture to edit**: *Base Retrieval* finds which one is meant; *DDIM Invert* finds the noise from which it would be painted. It keeps the layout.
5. **Paint** from that noise toward the result.
6. **Look** at both, side by side.

Press **Run**. Then try another sound (the input folder has frog, rain and snow), or write *make it night*.
{MINIATURE}""",
    "edit_with_picture": f"""# Edit a picture with another picture

`[image1]` is edited; `[image2]` shows what to put into it. The order of the chain of *Load Image Embedding* nodes gives the numbers.

The language model says which picture it means to edit, and **Base Retrieval** finds it: its list shows how near each reference is, and an arrow at the chosen one.
Write *put what is in [image1] into [image2]*, and the other picture is edited.

Press **Run**.
{MINIATURE}""",
    "edit_with_three_references": f"""# A picture, a sound and a text in one instruction

References are a chain: connect the output *references* of one to the input of the next. As many as you like, of any kind, each usable any number of times.

- `[image1]` is your picture,
- `[audio1]` is heard,
- `[text1]` is read.

One sentence asks for two changes at once. The language model shows its plan below the sentence before anything is painted.

Press **Run**.
{MINIATURE}""",
    "style_from_picture": f"""# The style of another picture

`[image1]` keeps what it shows; `[image2]` says how it is drawn.

The layout comes from the noise of your own picture. Should the old lines show through, let some of it go: **alpha** on *Latent Noise Mix* says how much stays (1 all of it, 0 nothing).

Press **Run**.
{MINIATURE}""",
    "sound_to_picture": f"""# From a sound to pictures

No instruction and no picture to start from. What you hear goes through ImageBind, and the **Refinement Prior** turns the embedding of the *sound* into that of a *picture* (its **source** says `audio`).
Four empty pictures are painted from noise.

Press **Run**. Another **seed** on the sampler gives four others; another sound gives another world. What the sound does not tell (the place, the weather) the painter makes up.
A text or a picture works too: connect it instead and set **source** to `text` or `image`. **guidance** is 1 here, the prior's plain answer.
{MINIATURE}""",
    "edit_with_stock_sampler": f"""# The same edit with ComfyUI's own sampler

*Apply Embedding* gives ordinary **CONDITIONING**, so that **KSampler (Advanced)** paints it, and what hangs on MODEL and CONDITIONING hangs here too.

The grey group holds a **LoRA** and a **ControlNet**. Both are switched off (purple), because they need files of yours. To use one: choose your file, select its nodes and press **Ctrl+B**. Both have to be of the size of the diffusion model.
They sit *before* DDIM Invert: it has to walk up the same way that the sampler walks down.

Press **Run**: without them the picture is the same as in *edit_with_sound*.
{MINIATURE}""",
    "masked_edit": f"""# Edit a part of the picture

Only the part under the mask is painted anew; outside it stays the picture you brought, as the VAE gives it back.

The example brings its mask along: its right half is see-through. For your own picture, right-click *Load Image* and choose **Open in MaskEditor**.

The mask goes through **Set Latent Noise Mask**, and everything behind it honours it. In the end **ImageCompositeMasked** puts what was painted into the picture that was not touched.

Press **Run**.
{MINIATURE}""",
    "knobs": """### It changes too little?
Raise **cfg** on the sampler (3 → 4), or lower **alpha** on Latent Noise Mix (1 → 0.4). Strongest: connect *embedding* of Base Retrieval to **negative_embedding** of the sampler: it paints away from the source.

### It changes too much?
Lower **cfg** (3 → 2), or raise **base_weight** on Embedding Mix (0 → 0.5).

### Another attempt?
With alpha below 1: another **seed** on Latent Noise Mix.

**steps** and **scheduler** have to be the same on DDIM Invert and the sampler. Only what hangs on the knob you turned runs again.""",
    "knobs of the stock sampler": """### It changes too little?
Raise **cfg** (3 → 4), or lower **alpha** on Latent Noise Mix (1 → 0.4). Strongest: connect *embedding* of Base Retrieval to **negative_embedding** of Apply Embedding (the result): it paints away from the source.

### It changes too much?
Lower **cfg** (3 → 2), or raise **base_weight** on Embedding Mix (0 → 0.5).

### Keep these
**add_noise** stays on *disable*: the noise comes from the picture. **steps**, **scheduler** and *euler* as on DDIM Invert.""",
}
