"""The functions that tool questions offer: each takes one argument."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Function:
    """`requests` are sentences with one `{}` where the argument's value stands."""

    name: str
    description: str
    argument: str
    takes: str  # "number", or one of `WORDS`
    requests: tuple[str, ...]


CITIES = (
    "Paris London Berlin Madrid Rome Vienna Lisbon Dublin Oslo Stockholm Helsinki Copenhagen "
    "Amsterdam Brussels Zurich Geneva Prague Warsaw Budapest Athens Istanbul Cairo Nairobi Lagos "
    "Accra Tunis Dakar Tokyo Osaka Kyoto Seoul Busan Beijing Shanghai Taipei Singapore Bangkok "
    "Hanoi Jakarta Manila Mumbai Delhi Chennai Karachi Dubai Doha Tehran Baghdad Sydney Melbourne "
    "Perth Auckland Toronto Montreal Vancouver Chicago Boston Seattle Denver Dallas Houston Miami "
    "Atlanta Austin Portland Havana Lima Quito Bogota Santiago Caracas Montevideo"
).split()

ENGLISH_WORDS = (
    "apple bread cloud dream earth flame glass house island jacket kettle lemon mirror night ocean "
    "paper queen river stone table umbrella violin window yellow zebra anchor basket candle desert "
    "engine forest garden hammer insect jungle kitchen ladder market needle orange pencil rabbit "
    "silver ticket valley winter bridge circle doctor eagle feather ghost honey iron jewel knight "
    "letter mountain number owl planet quiet rain school train voice water bottle cat dog tree"
).split()

WORDS = {"city": CITIES, "word": ENGLISH_WORDS}
# Other names that an argument goes by.
ARGUMENTS = {
    "number": "number value id count size index amount key level n x".split(),
    "city": "city place location name town query".split(),
    "word": "word text name query term input".split(),
}

FUNCTIONS = (
    Function(
        "get_weather",
        "Get the current weather in a city.",
        "city",
        "city",
        ("What is the weather in {}?", "How is the weather in {}?", "What's the weather in {}?"),
    ),
    Function(
        "get_time",
        "Get the local time in a city.",
        "city",
        "city",
        ("What time is it in {}?", "Tell me the time in {}."),
    ),
    Function(
        "get_population",
        "Get the number of people in a city.",
        "city",
        "city",
        ("How many people live in {}?", "What is the population of {}?"),
    ),
    Function(
        "book_hotel",
        "Book a hotel in a city.",
        "city",
        "city",
        ("Book a hotel in {}.", "I need a hotel in {}."),
    ),
    Function(
        "translate",
        "Translate a word to French.",
        "word",
        "word",
        ("Translate {} to French.", "What is {} in French?"),
    ),
    Function(
        "define",
        "Look up what a word means.",
        "word",
        "word",
        ("What does {} mean?", "Define {}."),
    ),
    Function(
        "search",
        "Search the web.",
        "text",
        "word",
        ("Search for {}.", "Search the web for {}."),
    ),
    Function(
        "square", "Square a number.", "number", "number", ("Square {}.", "What is {} squared?")
    ),
    Function(
        "is_prime",
        "Tell whether a number is prime.",
        "number",
        "number",
        ("Is {} prime?", "Is {} a prime number?"),
    ),
    Function(
        "factorize",
        "Find the prime factors of a number.",
        "number",
        "number",
        ("Factorize {}.", "What are the prime factors of {}?"),
    ),
    Function(
        "to_fahrenheit",
        "Convert degrees Celsius to Fahrenheit.",
        "celsius",
        "number",
        ("Convert {} degrees Celsius to Fahrenheit.", "How many Fahrenheit are {} Celsius?"),
    ),
    Function(
        "to_miles",
        "Convert kilometers to miles.",
        "kilometers",
        "number",
        ("Convert {} kilometers to miles.", "How many miles are {} kilometers?"),
    ),
    Function(
        "set_timer",
        "Set a timer.",
        "minutes",
        "number",
        ("Set a timer for {} minutes.", "Wake me in {} minutes."),
    ),
    Function(
        "set_volume",
        "Set the volume in percent.",
        "level",
        "number",
        ("Set the volume to {}.", "Turn the volume to {} percent."),
    ),
    Function(
        "get_order",
        "Look up an order.",
        "order_id",
        "number",
        ("Where is my order {}?", "Show me order {}."),
    ),
    Function(
        "play_track",
        "Play a track by its number.",
        "track",
        "number",
        ("Play track {}.", "I want to hear track {}."),
    ),
)

# Parts of made-up functions, so that a name is read from the offer and not from memory.
VERBS = "get set find read send open close count check start stop load save show make call".split()
NOUNS = (
    "item user file page room lamp door note task price color score event level mail code".split()
)


def made_up(verb: str, noun: str, argument: str, takes: str) -> Function:
    name = f"{verb}_{noun}"
    requests = (
        f"Call {name} with {{}}.",
        f"Use {name} on {{}}.",
        f"Please {verb} the {noun} {{}}.",
        f"{verb.capitalize()} {noun} {{}}.",
    )
    return Function(name, f"{verb.capitalize()} a {noun}.", argument, takes, requests)
