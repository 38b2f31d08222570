"""What every model's card says: what the model is for, what it must not be used for, and whose terms hold."""

NO_DATA = (
    "What this model was trained on is not known. Do not use it before you know that, and whether its owners "
    "allow your use."
)
RESEARCH_DATA = (
    "The owners of these pictures allow research only, and weights trained on them are for research only, "
    "too. Not all people in the pictures agreed to be shown."
)
MAYBE_RESEARCH_DATA = (
    "If these pictures come from that data set, its owners allow research only, and weights trained on it "
    "are for research only, too. Otherwise the terms are those of the owner of the pictures."
)
OWN_DATA = (
    "The terms of these weights are those of the pictures. Before you use or share the weights, ask the "
    "owner of the pictures, and keep to the law on the data of the people in them."
)
#: Whose terms hold, by what is known of the data set (`kronreid.data.check.Description.verdict`).
TERMS = {"agrees": RESEARCH_DATA, "less": MAYBE_RESEARCH_DATA, "differs": OWN_DATA, "own": OWN_DATA}
LICENCE = (
    "The code of kronreid has the MIT licence, which does not extend to these weights. If the backbone began "
    "with weights from elsewhere, their licence holds as well."
)
INTENDED = [
    "## Intended use",
    "- Research on person re-identification: to reproduce, compare and explain results.\n"
    "- To rank pictures by how likely they show the person of a query, for a human who checks each result.\n"
    "- Only with a lawful basis and with the knowledge of the people in the pictures. Many countries "
    "restrict or forbid biometric identification in public places.",
]
FORBIDDEN = [
    "## Forbidden use",
    "- To follow or profile people without a lawful basis and their knowledge.\n"
    "- To suppress protest, press or minorities.\n"
    "- To infer ethnicity, health, religion or emotion.\n"
    "- As the only reason for any decision about a person.",
]
LIMITS = [
    "## Limits",
    "A high score is a hint for a human, never proof. Error rates are far from zero, and they differ between "
    "groups of people, cameras and seasons. Measure them on your own pictures first.",
]
