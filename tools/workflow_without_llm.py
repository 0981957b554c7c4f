"""The example workflow of an edit without the language model: both references are picked by hand and mixed."""

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
# Chosen on validation edits: guidance stresses what is added, so that the picture needs as large a share as the rest together.
CFG = 2.0
WEIGHTS = {"edit_weight": 1.0, "refined_weight": 1.0, "base_weight": 2.0}


def without_llm_plan(name: str, base: Source, added: Source) -> Plan:
    """`base` is edited, as the first picture of the chain; what `added` stands for comes into it."""
    plan = Plan(name)
    brought, references = add_references(plan, base, added)
    picked = add_picks(plan, references, f"{added.kind}{1 + (added.kind == base.kind)}")
    shown = add_mix(plan, added.kind)
    noise = add_inversion(plan, references)
    plan.add(
        "base",
        "Any2PixPickReference",
        "Pick Reference (the picture to edit)",
        references=references,
        mark=f"{base.kind}1",
    )
    plan.rows.append([(name, KNOBS), brought, picked, shown])
    painted = add_sampler(plan)
    plan.nodes["sampled"]["inputs"]["cfg"] = CFG
    plan.rows.append([noise, painted, add_comparison(plan)])
    return plan


def add_picks(plan: Plan, references: Link, mark: str) -> Group:
    plan.add("picked", "Any2PixPickReference", "Pick Reference (what comes into it)", references=references, mark=mark)
    return Group("2 · What comes into it", ASK_COLOR, (("picked",),))


def add_mix(plan: Plan, source: str) -> Group:
    """The picked reference, as the prior sees it in a picture, and the picture to edit: in the place of the LLM's prediction."""
    picked = ("picked", "embedding")
    plan.add("prior", "Any2PixLoadPrior")
    plan.add(
        "refined", "Any2PixRefine", prior=("prior", "prior"), embedding=picked, source=source, guidance=PRIOR_GUIDANCE
    )
    base = ("base", "embedding")
    plan.add("mixed", "Any2PixMixEmbeddings", edit=picked, refined=("refined", "refined"), base=base, **WEIGHTS)
    return Group("3 · What the result shows", SHOW_COLOR, (("prior", "refined"), ("mixed",)))


def notes(miniature: str) -> dict[str, str]:
    """What the notes say; `miniature`: the paragraph about it that all of them end with."""
    return {
        NAME: f"""# An edit without the language model

The language model is by far the largest file (13.6 GB). Here it is not needed: you say by hand which reference is edited and which comes into it.

1. **What you bring** is turned into embeddings, as always.
2. **What comes into it**: *Pick Reference* takes one by its mark, `audio1` here.
3. **What the result shows**: the prior turns the sound into what a picture of it would show (its **source** says `audio`), and *Embedding Mix* adds your picture with **base_weight** 2, so that all the rest of it stays.
4. **The picture to edit** is picked by hand too, `image1`; *DDIM Invert* keeps its layout.
5. **Paint**, 6. **Look**.

Press **Run**. Then try the input folder's frog, rain or snow. Words work as well: *Load Text Embedding* with *a robot*, **mark** `text1`, **source** `text`.

What it cannot: take only the subject out of another picture, remove something, or do two things at once. The language model can.
{miniature}""",
        KNOBS: """### It changes too little?
Lower **base_weight** on Embedding Mix (2 → 1.5), or raise **cfg** on the sampler (2 → 3).

### It changes too much?
The place or the weather of your picture is lost? Raise **base_weight** (2 → 2.5), or lower **cfg** (2 → 1.5).

### You describe the whole result?
*Load Text Embedding* with *a cat in the meadow on a sunny day*: then **base_weight** 0.5.

**steps** and **scheduler** have to be the same on DDIM Invert and the sampler.""",
    }
