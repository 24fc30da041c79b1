"""Words that the generated tasks are made of."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = (
    "Ann",
    "Ben",
    "Carla",
    "David",
    "Emma",
    "Frank",
    "Grace",
    "Henry",
    "Ida",
    "Jack",
    "Kate",
    "Leo",
    "Maria",
    "Nora",
)
SURNAMES = ("Baker", "Clark", "Diaz", "Evans", "Fischer", "Gomez", "Hill", "Jones", "Khan", "Lopez", "Meyer", "Novak")
THINGS = ("apples", "books", "cards", "coins", "cookies", "eggs", "marbles", "pens", "shells", "stamps", "stickers")

SHORT_WORDS = _words(
    "ant arm bag bed bee box bus cap car cat cow cup day dog ear egg eye fan fig fox hat hen ice ink jam jar key kit"
    " leg lid map net nut oak oil owl pan pea pen pie pig pin pot rat red rug sea sky sun tea toy van web zoo"
)
MIDDLE_WORDS = _words(
    "apple beach berry bread brick cabin candy chair chest cliff clock cloud colon crane daisy dress eagle fence"
    " field floor flute geese glass grass green grape heart hello horse house juice knife lemon light llama maple"
    " melon money mouse music night ocean onion paper pearl piano plate puppy queen river robot sheep shell skill"
    " smile snake spoon stone storm sugar sweet table tiger tooth tower train tulip uncle water wheel whale zebra"
)
LONG_WORDS = _words(
    "afternoon alligator apartment assassin banana balloon beekeeper blueberry bookkeeper butterfly cabbage calendar"
    " chocolate committee cucumber dandelion darkness difference dinosaur elephant emergency evergreen excellent"
    " festival football freedom gardener glasses greenhouse happiness hospital illness independence kangaroo"
    " lemonade mattress medicine messenger mississippi mountain necessary notebook octopus pancake pepper"
    " pineapple possession pumpkin raspberry referee rhinoceros sandwich seventeen squirrel strawberry"
    " sweetness tomorrow tennessee umbrella vegetable village waterfall whistle"
)
