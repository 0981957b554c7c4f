"""What the notes in the example workflows say, in plain words for artists. Markdown, without inline code: Vue nodes
write it in dark blue on dark."""

from any2pix.stages.pix2pix.pipeline import TextEditOptions

KNOBS = TextEditOptions()  # of the miniature
MINIATURE = """
The purple **Load ...** nodes are set to *miniature*: small networks that come with the pack and run on any computer.
They are trained on a small world of 128 x 128 pictures. For your own pictures choose the full weights (see the README)."""

DOWNLOADS = """
### What to download first
- **imagebind_huge.pth**, 4.5 GB, of [ImageBind](https://github.com/facebookresearch/ImageBind) (no commercial use), into models/any2pix/imagebind
- **llm-retrained**, the folder, 13.6 GB, of [the release](https://huggingface.co/jacklishufan/instructany2pix_retrained), into models/any2pix/llm
- **prior/model.bin**, 2.8 GB, of the release, into models/any2pix/prior
- **sdxl/ip_adapter_global_local_2_view.bin**, 1.4 GB, of the release, into models/any2pix/adapter
- **sd_xl_base_1.0.safetensors**, 6.9 GB, of [Stability AI](https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0), into models/checkpoints

The purple nodes name each file as one **.safetensors**, which describes itself and loads faster. To make it:

**python -m any2pix.loading.convert imagebind_huge.pth models/any2pix/imagebind**

and so on for the others; the README says how. Or choose the files as you downloaded them on the purple nodes: they load too.
8 GB of memory on your card? Set **precision** of the LLM to *fp8_e4m3fn*: by calculation nearly all of it fits."""

PIX2PIX_FILES = """
### Weights for photographs
- **SD 1.5 InstructPix2Pix** ([instruct-pix2pix-00-22000.safetensors](https://huggingface.co/timbrooks/instruct-pix2pix), 7.7 GB) or **CosXL Edit** ([cosxl_edit.safetensors](https://huggingface.co/stabilityai/cosxl), 6.9 GB): into models/checkpoints, and ComfyUI's **Load Checkpoint** instead of *Load InstructPix2Pix*.
- **SDXL InstructPix2Pix** ([sdxl-instructpix2pix-768](https://huggingface.co/diffusers/sdxl-instructpix2pix-768), the folder, 12.3 GB): into models/any2pix/pix2pix, then choose it on *Load InstructPix2Pix*.

A photograph is too large: put **Scale Image to Total Pixels** before *VAE Encode*, 0.25 megapixels for SD 1.5, 1 for the others."""

NOTES = {
    "published_edit": f"""# The whole edit, with the published weights

The same as *edit_with_sound*, now with the networks of the InstructAny2Pix authors: for photographs, at SDXL's size. Its settings are their program's.

1. **What you bring**: replace the examples with your picture and sound.
2. **What you ask for**: in your own words; write **[image1]** and **[audio1]** for them.
3. **What the result shows**: prediction and refined prediction, mixed 0.4 to 1 by the authors' **formula**.
4. **The words**: the caption that the language model wrote, after the quality words. SDXL reads it beside the embedding. (The authors put no comma between the two; write one into *delimiter* if you like.)
5. **The picture to edit** keeps its shape; it is scaled to one megapixel. The noise is found with the plain model and the empty prompt. **alpha** 0.7 gives up some of its layout.
6. **Paint**: *Load Embedding Adapter* gives SDXL the embedding too.
{DOWNLOADS}""",
    "published_edit_lcm": f"""# The published weights in eight steps

As *published_edit*, but painted by **LCM**: a LoRA makes SDXL predict the result early, *ModelSamplingDiscrete* is set for that, and the **lcm** sampler needs 4 to 8 steps.

The LoRA goes between the checkpoint and *Apply Embedding*; *DDIM Invert* takes the model without it. LCM begins at the model's highest noise level, so **scheduler** of DDIM Invert is *normal* here.
LCM draws fresh noise after every step: the layout of your picture is kept less than by 25 plain steps.
{DOWNLOADS}

And the LoRA: **pytorch_lora_weights.safetensors** of [lcm-lora-sdxl](https://huggingface.co/latent-consistency/lcm-lora-sdxl), 0.4 GB, renamed to **lcm_lora_sdxl.safetensors**, in models/loras.""",
    "published_edit_refiner": f"""# The published weights, and SDXL's refiner after them

As *published_edit*; then the **refiner**, a second model, goes over the last half of the noise again (**denoise** 0.5, the authors' strength) with the caption and quality words. It sharpens surfaces but cannot fix mistakes.

Both results are saved: compare them. Lower **denoise** keeps more of the first.
{DOWNLOADS}

And the refiner: **sd_xl_refiner_1.0.safetensors** of [Stability AI](https://huggingface.co/stabilityai/stable-diffusion-xl-refiner-1.0), 6.1 GB, in models/checkpoints.""",
    "knobs of the published weights": """### It changes too little?
Lower **alpha** on Latent Noise Mix (0.7 → 0.4); raise **scale** on the sampler (1 → 1.3).

### It changes too much?
Raise **alpha** (0.7 → 0.9), or **base_weight** on Embedding Mix (0 → 0.3). With alpha at 1 set **iterations** of DDIM Invert to 10: it finds the noise more exactly.

### The caption is wrong?
Another **seed** on Multimodal Instruction LLM (**temperature** 0.3 is the authors'; 0 always takes the likeliest word), or other words.

### Too glaring, too smooth?
Lower **cfg** (10 → 6). **guidance** of the prior: lower is closer to what was predicted.

**steps** and **scheduler** have to be the same on DDIM Invert and the sampler.""",
    "knobs of LCM": """### It changes too little?
Lower **alpha** on Latent Noise Mix (0.7 → 0.4); raise **scale** on Apply Embedding.

### It changes too much?
Raise **alpha** (0.7 → 1), or **base_weight** on Embedding Mix (0 → 0.5).

### Faster?
**steps** 4 instead of 8 on the KSampler. **cfg** at 1 halves the time and ignores the negative words; above 2 colours burn.

### Keep these
**add_noise** on *disable*, **sampler** *lcm*, **scheduler** *sgm_uniform*; *normal* on DDIM Invert. Its **steps** are its own here.""",
    "edit_with_sound": f"""# Edit a picture with a sound

You bring a picture and a sound, and write what to do. **[image1]** and **[audio1]** in the instruction stand for them.

1. **What you bring** is turned into embeddings: pictures, sounds and words in one shared space.
2. **What you ask for**: the language model reads your sentence and shows a caption of the result below it.
3. **What the result shows**: the prior makes the prediction cleaner; *Embedding Mix* weighs the two. **guidance** is 3 for the miniature; the full weights were published with 10.
4. **The picture to edit**: *Base Retrieval* finds the picture that is meant; *DDIM Invert* finds noise that reproduces it, which keeps the layout.
5. **Paint** from that noise toward the result.
6. **Look** at both, side by side.

Press **Run**. Then try another sound (the input folder has frog, rain and snow), or write *make it night*.
{MINIATURE}""",
    "edit_with_picture": f"""# Edit a picture with another picture

**[image1]** is edited; **[image2]** shows what to put into it. The order of the chain of *Load Image Embedding* nodes gives the numbers.

The language model predicts which picture to edit, and **Base Retrieval** finds it: its list shows how similar each reference is, with an arrow at the chosen one.
Write *put what is in [image1] into [image2]*, and the other picture is edited.

Press **Run**.
{MINIATURE}""",
    "edit_with_three_references": f"""# A picture, a sound and a text in one instruction

References are a chain: connect the output *references* of one to the input of the next. As many as you like, of any kind, each usable any number of times.

- **[image1]** is your picture,
- **[audio1]** is heard,
- **[text1]** is read.

One sentence asks for two changes at once. The language model shows its plan below the sentence before anything is painted.

Press **Run**.
{MINIATURE}""",
    "style_from_picture": f"""# The style of another picture

**[image1]** gives the content; **[image2]** gives the style.

The layout comes from the noise of your own picture. If the old lines show through, keep less of it: **alpha** on *Latent Noise Mix* sets how much stays (1 all of it, 0 nothing).

Press **Run**.
{MINIATURE}""",
    "sound_to_picture": f"""# From a sound to pictures

No instruction and no picture to start from. ImageBind encodes the sound, and the **Refinement Prior** turns the embedding of the *sound* into that of a *picture* (its **source** is **audio**).
Four empty pictures are painted from noise.

Press **Run**. Another **seed** on the sampler gives four others; so does another sound. What the sound leaves open (the place, the weather) differs from picture to picture.
A text or a picture works too: connect it instead and set **source** to **text** or **image**. **guidance** is 1 here, the prior's plain answer.
{MINIATURE}""",
    "edit_with_stock_sampler": f"""# The same edit with ComfyUI's own sampler

*Apply Embedding* gives ordinary **CONDITIONING**, so that **KSampler (Advanced)** paints it, and whatever works on MODEL and CONDITIONING works here too.

The grey group holds a **LoRA** and a **ControlNet**. Both are switched off (purple), because they need files of yours. To use one: choose your file, select its nodes and press **Ctrl+B**. Both have to be of the size of the diffusion model.
They come *before* DDIM Invert: it must use the same model as the sampler.

Press **Run**: without them the picture is the same as in *edit_with_sound*.
{MINIATURE}""",
    "masked_edit": f"""# Edit a part of the picture

Only the part under the mask is repainted; outside it your picture stays, as the VAE returns it.

The example has a mask: its right half is transparent. For your own picture, right-click *Load Image* and choose **Open in MaskEditor**.

The mask goes through **Set Latent Noise Mask**, and all nodes after it use it. In the end **ImageCompositeMasked** pastes the repainted part into the untouched picture.

Press **Run**.
{MINIATURE}""",
    "keep_the_rest": f"""# Keep the rest of the picture

The same edit as *edit_with_sound*, but it finds its own mask: only where the edit changes the picture it is painted anew.

**Edit Mask** compares what the model would paint as the source and as the result. Its mask goes through **Set Latent Noise Mask** to the sampler. In the end **ImageCompositeMasked** puts what was painted into the picture that was not touched.

An edit of everything (a style, the weather) gets the whole picture: then nothing is kept, as it should be.

Press **Run** and look at *The mask*.
{MINIATURE}""",
    "knobs of the mask": """### The edit is cut off, or some of the old is left?
Raise **strength** on Edit Mask (0.8 → 0.9), or **grow**.

### Too much around it changes?
Lower **strength** (0.8 → 0.7).

### A seam?
Raise **softness**.

Only the mask and the sampler run again. For your own mask too: **Mask Composite** with *multiply*, between Edit Mask and Set Latent Noise Mask.""",
    "knobs": """### It changes too little?
Raise **cfg** on the sampler (3 → 4), or lower **alpha** on Latent Noise Mix (1 → 0.4). Strongest: connect *embedding* of Base Retrieval to **negative_embedding** of the sampler: it paints away from the source.

### It changes too much?
Lower **cfg** (3 → 2), or raise **base_weight** on Embedding Mix (0 → 0.5).

### Another attempt?
With alpha below 1: another **seed** on Latent Noise Mix.

**steps** and **scheduler** have to be the same on DDIM Invert and the sampler. Only the nodes after a changed knob run again.""",
    "knobs of the stock sampler": """### It changes too little?
Raise **cfg** (3 → 4), or lower **alpha** on Latent Noise Mix (1 → 0.4). Strongest: connect *embedding* of Base Retrieval to **negative_embedding** of Apply Embedding (the result): it paints away from the source.

### It changes too much?
Lower **cfg** (3 → 2), or raise **base_weight** on Embedding Mix (0 → 0.5).

### Keep these
**add_noise** stays on *disable*: the noise comes from the picture. **steps**, **scheduler** and *euler* as on DDIM Invert.""",
    "edit_by_text": f"""# Edit a picture by a sentence

You bring a picture and say what to do with it. **InstructPix2Pix** sees your picture while it paints: nothing has to be inverted, masked or described.

1. **What you bring**: your picture instead of the example.
2. **What you ask for**: say what to *do*, not what the result shows: *let it snow*, *turn the cat into a dog*, *make it an ink drawing*. The second text stays empty: the model compares your sentence with no sentence.
3. **How strongly**: two knobs, one for the sentence, one for the picture. There are no others.
4. **Paint**, with ComfyUI's own sampler, from noise.
5. **Look** at both, side by side.

Press **Run**. Then try *let it snow in the picture*, *draw it as an ink drawing*, or another picture.
{MINIATURE}
{PIX2PIX_FILES}""",
    "edit_by_text_grid": f"""# Which guidance? Try them all at once

The same edit as *edit_by_text*, painted once for every combination of the two guidances, in one press of **Run**.

**Grid Values** holds the numbers: across, how strongly the sentence is followed; down, how much of your picture stays. Its x and y are connected to the two knobs of *InstructPix2Pix Guidance*, and ComfyUI repeats the nodes after them for every pair. *Labelled Grid* puts the pictures into one, with the numbers beside them.

Look for the cell that you like, and type its two numbers into *edit_by_text*.
{MINIATURE}
{PIX2PIX_FILES}""",
    "edit_by_text_beside": f"""# Two ways to edit, side by side

The same picture and the same sentence for both systems of this pack.

- **InstructAny2Pix** (second and third row): a language model reads the sentence and predicts what the result shows; the picture becomes noise, which keeps its layout, and is repainted. It also uses pictures and sounds in a sentence.
- **InstructPix2Pix** (fourth row): one network sees the picture and reads the sentence. Words only, and nothing to set but two guidances.

**[image1]** in the sentence marks the picture for InstructAny2Pix. InstructPix2Pix uses no marks: *The mark in words* replaces it with **the picture**.

Press **Run**. Below: your picture, InstructAny2Pix, InstructPix2Pix.
{MINIATURE}""",
    "knobs of InstructPix2Pix": f"""### It changes too little?
Raise **text_guidance**, or lower **image_guidance** (not below 1).

### It changes too much?
Raise **image_guidance**, or lower **text_guidance**.

### Colors burn?
Lower both. The miniature works best at {KNOBS.text_guidance:g} and {KNOBS.image_guidance:g}. With weights for photographs start at 7.5 and 1.5, with CosXL Edit at 5 and 1.5.

### Another attempt?
Another **noise_seed**. Or say it in other words.

To compare them all: *edit_by_text_grid*. A changed knob runs only the painting again.""",
    "knobs of the grid": """### Other numbers?
Numbers with commas between them, up to 100 pictures in one run. For InstructPix2Pix on SD 1.5 try **x_values** 5, 7.5, 10 and **y_values** 1, 1.5, 2.

### Another knob?
x and y fit every number with a decimal point: the strength of a LoRA, a ControlNet's strength. The names are only labels.

### One row only?
One number in **y_values**, and y not connected.""",
    "knobs of both": """### It changes too little?
InstructPix2Pix: raise **text_guidance**. InstructAny2Pix: raise **cfg** on the sampler (3 → 4), or lower **alpha** on Latent Noise Mix (1 → 0.4).

### It changes too much?
InstructPix2Pix: raise **image_guidance**. InstructAny2Pix: lower **cfg**, or raise **base_weight** on Embedding Mix (0 → 0.5).

### Another sentence?
In **The instruction**; **[image1]** has to be in it. Both follow it.""",
    "edit_without_llm": f"""# An edit without the language model

The language model is by far the largest file (13.6 GB). It turns your instruction into what the *result* shows. Here you describe the result yourself instead.

1. **What you bring**: your picture, and the whole result in words: what there is, where, the weather, the style.
2. **What you ask for**: *Pick Reference* takes the words by their mark, `text1`.
3. **What the result shows**: the prior turns them into what a picture of them would show (its **source** says `text`), and *Embedding Mix* adds a little of your picture, **base_weight** 0.25.
4. **The picture to edit** is picked by hand too, `image1`; *DDIM Invert* keeps its layout.
5. **Paint**, 6. **Look**.

Press **Run**. Then change a word: *robot*, *in the rain*, *ink style*; or leave the cat out.
{MINIATURE}""",
    "knobs without the LLM": """### It changes too little?
Lower **base_weight** on Embedding Mix (0.25 → 0), or raise **cfg** on the sampler (3 → 4).

### It changes too much?
Say more of your picture in the words, or raise **base_weight** (0.25 → 0.5).

### A sound instead of the words?
*Load Audio Embedding* in the chain, **mark** `audio1`, **source** `audio`. It does not describe your picture, which needs a large share: **edit_weight** 1, **base_weight** 2, and **cfg** 2. A single word needs the same.

### Another picture?
Its place and weather come with it: only the language model can take the subject alone.

**steps** and **scheduler** have to be the same on DDIM Invert and the sampler.""",
    "InstructAny2Pix Edit": f"""# What is inside

The same graph as *edit_with_sound*. What stands on the node:

- **instruction** says what to do. **[image1]**, **[image2]** and **[audio1]** stand for what is connected; the last two may stay free.
- **strength** is **cfg** of the sampler: how strongly it moves from your picture toward the result. 1 is the plain prediction.
- **keep_layout** is **alpha** of *Latent Noise Mix*: how much of the noise comes from your picture. At 1 all of its layout stays.
- **seed** draws the fresh noise that replaces the rest. At keep_layout 1 there is none, and every seed gives the same picture.

Everything else is set in here. Weights of your own: choose them on the purple nodes.
{MINIATURE}""",
    "InstructPix2Pix Edit": f"""# What is inside

The same graph as *edit_by_text*. What stands on the node:

- **instruction** says what to do: *make it snow*.
- **strength** is **text_guidance**: how strongly the sentence is followed.
- **keep_picture** is **image_guidance**: how much of your picture stays.
- **seed** draws the noise that is painted from. Another seed is another attempt.

Weights for photographs: choose them on the purple node. Start at strength 7.5 and keep_picture 1.5.
{MINIATURE}""",
    "edit_in_one_node": f"""# The whole edit as one node

Your picture and your sound go in, the result comes out. Say in **instruction** what to do; **[image1]** and **[audio1]** stand for what is connected. A second picture is **[image2]**. What you do not need stays unconnected.

- It changes too little? Raise **strength** (3 → 4).
- It changes too much? Lower it (3 → 2).
- It keeps too much of the old layout? Lower **keep_layout** (1 → 0.7). Then another **seed** is another attempt.

Press the button at the top right of the node to open it: inside is the graph of *edit_with_sound*, with every knob, and the purple nodes on which you choose other weights.

With ComfyUI 0.3.75 or newer you find this node in the node library too, as the blueprint **InstructAny2Pix Edit**, beside **InstructPix2Pix Edit**.

Press **Run**.
{MINIATURE}""",
}
