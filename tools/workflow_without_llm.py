"""The example workflow of an edit without the language model: the base is picked by hand, the result described in
words."""

from dataclasses import replace

from workflow_parts import (
    ASK_COLOR,
    PRIOR_GUIDANCE,
    SHOW_COLOR,
    Group,
    Link,
    Plan,
    Source,
    add_comparison,
    add_inversion,
    add_references,
    add_sampler,
)

NAME, KNOBS = "edit_without_llm", "knobs without the LLM"
BASE_WEIGHT = 0.25  # chosen on validation edits
WORDS: Link = ("words", "STRING")


def without_llm_plan(name: str, base: Source, result: str) -> Plan:
    """`base` is edited, the only picture of the chain, to what `result` says in words."""
    plan = Plan(name)
    plan.add("words", "PrimitiveStringMultiline", "The result in words", value=result)
    brought, references = add_references(plan, base, Source("text", WORDS, ""))
    loaded, encoded = brought.columns
    brought = replace(brought, columns=((*loaded, "words"), encoded))
    picked, shown, noise = add_pick(plan, references), add_mix(plan), add_inversion(plan, references)
    plan.add(
        "base", "Any2PixPickReference", "Pick Reference (the picture to edit)", references=references, mark="image1"
    )
    plan.rows.append([(name, KNOBS), brought, picked, shown])
    plan.rows.append([noise, add_sampler(plan), add_comparison(plan)])
    return plan


def add_pick(plan: Plan, references: Link) -> Group:
    title = "Pick Reference (what the result shows)"
    plan.add("picked", "Any2PixPickReference", title, references=references, mark="text1")
    return Group("2 · What you ask for", ASK_COLOR, (("picked",),))


def add_mix(plan: Plan) -> Group:
    """The picked words, as the prior sees them in a picture, and a share of the picture to edit: in the place of the
    LLM's prediction."""
    picked = ("picked", "embedding")
    plan.add("prior", "Any2PixLoadPrior")
    plan.add(
        "refined",
        "Any2PixRefine",
        prior=("prior", "prior"),
        embedding=picked,
        source="text",
        guidance=PRIOR_GUIDANCE,
        text=WORDS,
    )
    plan.add(
        "mixed",
        "Any2PixMixEmbeddings",
        edit=picked,
        refined=("refined", "refined"),
        base=("base", "embedding"),
        base_weight=BASE_WEIGHT,
    )
    return Group("3 · What the result shows", SHOW_COLOR, (("prior", "refined"), ("mixed",)))


def notes(miniature: str) -> dict[str, str]:
    """What the notes say; `miniature`: the paragraph about it that all of them end with."""
    return {
        NAME: f"""# An edit without the language model

The language model is by far the largest file (13.6 GB). It turns your instruction into what the *result* shows. Here you say that yourself, and it is not needed.

1. **What you bring**: your picture, and the whole result in words: what there is, where, the weather, the style.
2. **What you ask for**: *Pick Reference* takes the words by their mark, `text1`.
3. **What the result shows**: the prior turns them into what a picture of them would show (its **source** says `text`), and *Embedding Mix* adds a little of your picture, **base_weight** 0.25.
4. **The picture to edit** is picked by hand too, `image1`; *DDIM Invert* keeps its layout.
5. **Paint**, 6. **Look**.

Press **Run**. Then change a word: *robot*, *in the rain*, *ink style*; or leave the cat out.
{miniature}""",
        KNOBS: """### It changes too little?
Lower **base_weight** on Embedding Mix (0.25 → 0), or raise **cfg** on the sampler (3 → 4).

### It changes too much?
Say more of your picture in the words, or raise **base_weight** (0.25 → 0.5).

### A sound in the place of the words?
*Load Audio Embedding* in the chain, **mark** `audio1`, **source** `audio`. It says nothing of your picture, so that needs a large share: **edit_weight** 1, **base_weight** 2, and **cfg** 2. A single word needs the same.

### Another picture?
It brings its place and weather along: only the language model takes its subject alone.

**steps** and **scheduler** have to be the same on DDIM Invert and the sampler.""",
    }
