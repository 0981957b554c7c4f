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
