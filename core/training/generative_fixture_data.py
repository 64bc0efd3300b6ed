"""Written requests for the generative test fixture: slot grammars over twenty policies, and the cases made of them.

A topic is a policy with several descriptions and the patterns of its requests; filling the slots in every way gives
its utterances. Which of them are held out is decided by a checksum of the filled pattern, so that no held-out
combination of words is ever trained on while each of its words is. What surrounds an utterance (a greeting, a
"please") is drawn afterwards.
"""

from __future__ import annotations

import itertools
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

from archroute.conversation import Conversation, Turn
from archroute.policy import OTHER, Policy

Kind = Literal["single", "multi_turn", "absent", "irrelevant"]
"""What a case tests: one turn, a change of topic, a right policy that isn't listed, a request no policy covers."""

HELD_OUT_PERCENT = 15
"""How many of the utterances, of a hundred, are never trained on."""


@dataclass(frozen=True)
class Topic:
    """A policy and how people ask for it.

    Attributes:
        name: The policy's name.
        descriptions: Wordings of the policy's description.
        asks: Patterns in the imperative, `{slot}` where words are filled in.
        questions: Patterns in the form of a question.
        slots: Slot name → its fillings, with `|` between them.
    """

    name: str
    descriptions: tuple[str, ...]
    asks: tuple[str, ...]
    questions: tuple[str, ...]
    slots: dict[str, str]


@dataclass(frozen=True)
class Case:
    """A conversation, the policies on offer, and the right answer: one of their names, or `other`."""

    policies: tuple[Policy, ...]
    conversation: Conversation
    answer: str
    kind: Kind


@dataclass(frozen=True)
class Utterance:
    """A filled pattern, before a greeting or an ending is put around it."""

    text: str
    is_question: bool


_LANGUAGES = "Python|Java|Rust|Go|JavaScript|C++"

TOPICS = (
    Topic(
        "code_generation",
        (
            "Writing new source code from a specification",
            "Generation of functions, classes and scripts in any programming language",
            "Requests for a new program or snippet",
            "New code: functions, scripts, programs",
        ),
        ("{verb} a {language} {thing} {task}", "{verb} {language} code for a {thing} {task}"),
        ("how would I {verb} a {language} {thing} {task}",),
        {
            "verb": "write|implement|generate|program",
            "language": _LANGUAGES,
            "thing": "function|class|script|program|module",
            "task": "that sorts a list|that parses dates|that reads a file"
            "|for a web server|to reverse a string|for a queue",
        },
    ),
    Topic(
        "bug_fixing",
        (
            "Identifying and fixing errors in source code",
            "Debugging: crashes, exceptions and failing tests",
            "Repair of code that does not work",
            "Bugs and error messages in programs",
        ),
        ("{verb} the {fault} in my {language} {thing}", "{verb} this {language} {thing}, it has a {fault}"),
        ("why does my {language} {thing} give a {fault}",),
        {
            "verb": "fix|debug|repair|find and fix",
            "language": _LANGUAGES,
            "thing": "function|class|script|program|module",
            "fault": "bug|crash|type error|syntax error|memory leak|failing test|null pointer exception|stack trace",
        },
    ),
    Topic(
        "code_explanation",
        (
            "Explaining what existing code does",
            "Walkthroughs of source code, line by line",
            "Understanding of programs, algorithms and snippets",
            "Comments on how a piece of code works",
        ),
        ("{verb} what this {language} {thing} does", "{verb} how the {language} {thing} {works}"),
        ("what does this {language} {thing} do {works}", "how does this {language} {thing} work"),
        {
            "verb": "explain|describe|clarify|walk me through",
            "language": _LANGUAGES,
            "thing": "function|class|script|program|module|loop",
            "works": "works|step by step|line by line|in detail",
        },
    ),
    Topic(
        "image_editing",
        (
            "Changing an existing picture or photo",
            "Edits of images: crop, resize, colours, background",
            "Retouching of photographs",
            "Modifying uploaded images",
        ),
        ("{verb} the {part} {where} this {image}", "{verb} this {image} and its {part}"),
        ("how do I {verb} the {part} {where} my {image}",),
        {
            "verb": "crop|resize|brighten|sharpen|blur|retouch|remove",
            "part": "background|face|sky|shadow|left side|colours|border",
            "where": "in|of|on",
            "image": "photo|picture|image|portrait|screenshot",
        },
    ),
    Topic(
        "image_creation",
        (
            "Creating new pictures from a text prompt",
            "Generation of images, drawings and logos",
            "New artwork, illustrations and posters",
            "Drawing something that does not exist yet",
        ),
        ("{verb} {art} of a {subject} {style}", "{verb} me {art} with a {subject}"),
        ("what would {art} of a {subject} {style} look like",),
        {
            "verb": "draw|paint|create|design|sketch",
            "art": "an illustration|a picture|a logo|a poster|a drawing|an image",
            "subject": "dragon|castle|sunset|robot|mountain lake|cat in a hat|spaceship",
            "style": "in watercolour|in pixel art|in oil|in a modern style",
        },
    ),
    Topic(
        "summarisation",
        (
            "Summaries of long texts",
            "Shortening documents, articles and reports to their main points",
            "Condensing a text",
            "Key points of a document",
        ),
        ("{verb} this {text} {length}", "{verb} the {text} about {about}", "give me the {points} of this {text}"),
        ("what are the {points} of this {text} about {about}",),
        {
            "verb": "summarise|condense|shorten|sum up",
            "text": "article|report|paper|chapter|meeting transcript|book|blog post",
            "length": "in three sentences|in one paragraph|as bullet points|to half a page",
            "points": "key points|main points|highlights|takeaways",
            "about": "climate|elections|banking|energy|robots",
        },
    ),
    Topic(
        "translation",
        (
            "Translating text from one language to another",
            "Translation between human languages",
            "Text in a foreign language, put into another",
            "Words and sentences in other languages",
        ),
        ("translate {text} {into} {tongue}", "put {text} {into} {tongue}"),
        ("how do you say {text} in {tongue}", "what is the {tongue} word for {word}"),
        {
            "text": "this sentence|this paragraph|this letter|the following text|my speech|good morning|these words",
            "into": "into|from English into",
            "tongue": "French|German|Spanish|Japanese|Chinese|Italian|Polish|Arabic",
            "word": "window|butterfly|kitchen|friend|bridge",
        },
    ),
    Topic(
        "email_writing",
        (
            "Drafting and replying to emails",
            "Writing business email",
            "Composition of messages to colleagues and customers",
            "Emails: drafts, replies, follow-ups",
        ),
        ("{verb} {mail} to my {person} about {about}", "{verb} {mail} {tone} for my {person}"),
        ("how do I {verb} {mail} to my {person} about {about}",),
        {
            "verb": "write|draft|compose|prepare",
            "mail": "an email|a polite email|a reply email|a follow-up email|a short email",
            "person": "boss|landlord|customer|colleague|professor|team",
            "about": "the delay|my absence|the invoice|a pay rise|the new project",
            "tone": "in a formal tone|in a friendly tone",
        },
    ),
    Topic(
        "sql_queries",
        (
            "Writing database queries in SQL",
            "SQL: select, join, group and aggregate",
            "Queries over relational tables",
            "Database questions answered by a query",
        ),
        ("write a SQL query that {does} the {rows} {by}", "{do} the {rows} {by} in SQL", "query the {rows} table {by}"),
        ("which SQL statement {does} the {rows} {by}",),
        {
            "do": "count|select|join|group|delete|average",
            "does": "counts|selects|joins|groups|deletes|averages",
            "rows": "orders|customers|employees|payments|users|products",
            "by": "by month|by country|per department|with the highest salary|from last year|without duplicates",
        },
    ),
    Topic(
        "travel_booking",
        (
            "Booking flights, hotels and trips",
            "Travel arrangements and reservations",
            "Trips: trains, flights, rooms, rental cars",
            "Holiday planning and tickets",
        ),
        ("{verb} {what} {where} {city} {when}", "plan a trip to {city} {when}"),
        ("what is the cheapest way to get to {city} {when}", "are there free rooms in {city} {when}"),
        {
            "verb": "book|reserve|find|get me",
            "what": "a flight|a train ticket|a hotel|a rental car|two seats",
            "where": "to|for",
            "city": "Paris|Tokyo|London|Rome|New York|Madrid|Vienna",
            "when": "on Friday|next week|in June|for the weekend|tomorrow morning",
        },
    ),
    Topic(
        "tax_advice",
        (
            "Questions on income tax and deductions",
            "Tax returns, VAT and what may be deducted",
            "Advice on taxation",
            "Taxes for employees and companies",
        ),
        (
            "explain the {kind} tax rules for {who}",
            "help me {step} {kind} tax return as {who}",
            "tell me how {item} is taxed",
        ),
        ("can {who} deduct {item} from the {kind} tax", "how is {item} taxed for {who}"),
        {
            "kind": "income|sales|property|corporate|inheritance",
            "step": "file my|correct my|prepare my",
            "who": "a freelancer|a student|a landlord|a small company|an employee",
            "item": "a home office|a company car|a donation|rental income|a bonus|a laptop",
        },
    ),
    Topic(
        "recipe_ideas",
        (
            "Recipes and cooking ideas",
            "What to cook with given ingredients",
            "Meals, dishes and baking",
            "Cooking instructions for food",
        ),
        ("{verb} a {diet} recipe {with} {food}", "{verb} a {diet} {meal} with {food}"),
        ("what can I cook for {meal} with {food}", "how do I cook {diet} {food}"),
        {
            "verb": "suggest|give me|find|share",
            "diet": "vegan|quick|spicy|healthy|gluten-free",
            "with": "with|for|using",
            "food": "chicken|rice|lentils|potatoes|mushrooms|salmon|tomatoes|pasta",
            "meal": "dinner|lunch|breakfast|dessert",
        },
    ),
    Topic(
        "weather",
        (
            "Weather forecasts and current conditions",
            "Rain, temperature, wind and snow at a place",
            "Questions on the weather",
            "Forecasts for cities and days",
        ),
        ("tell me the {measure} in {city} {when}", "check the {measure} for {city} {when}"),
        (
            "will it {fall} in {city} {when}",
            "what is the {measure} in {city} {when}",
            "how {degree} is it in {city} {when}",
        ),
        {
            "measure": "weather|temperature|forecast|wind speed|humidity",
            "city": "Paris|Tokyo|London|Rome|New York|Madrid|Vienna",
            "when": "today|tomorrow|on Friday|next week|this evening",
            "fall": "rain|snow|be sunny|storm",
            "degree": "hot|cold|windy",
        },
    ),
    Topic(
        "music",
        (
            "Playing songs and making playlists",
            "Songs, albums, artists and bands",
            "Music recommendations",
            "Listening to music of any genre",
        ),
        ("play {genre} {sound} {mood}", "{verb} a {genre} playlist {mood}", "recommend {genre} {sound} {mood}"),
        ("which {genre} {sound} should I listen to {mood}",),
        {
            "verb": "make|put on|build|start",
            "genre": "jazz|rock|classical|techno|folk|hip hop",
            "sound": "songs|albums|bands|music",
            "mood": "for a party|while I study|for the car|to fall asleep|from the nineties",
        },
    ),
    Topic(
        "fitness",
        (
            "Workouts and training plans",
            "Exercise, strength and running",
            "Physical training at home or in the gym",
            "Fitness goals and exercises",
        ),
        ("{verb} a {span} {sport} workout {goal}", "{verb} exercises for my {muscle} {goal}"),
        ("which exercises train the {muscle} {goal}", "how many push-ups should I do {goal}"),
        {
            "verb": "plan|suggest|design|give me",
            "span": "daily|weekly|short|hard",
            "sport": "running|gym|yoga|cycling|swimming",
            "goal": "to build muscle|to lose weight|at home|for beginners|without weights",
            "muscle": "legs|back|arms|shoulders|core",
        },
    ),
    Topic(
        "legal_contracts",
        (
            "Contracts: drafting, clauses and review",
            "Legal review of agreements",
            "Terms and clauses of a contract",
            "Lease, employment and licence agreements",
        ),
        ("{verb} the {clause} clause {of} {contract}", "{verb} {contract} and its {clause} clause"),
        ("is the {clause} clause {of} {contract} valid", "what does the {clause} clause {of} {contract} mean"),
        {
            "verb": "review|draft|check|rewrite",
            "clause": "termination|liability|confidentiality|payment|non-compete",
            "of": "in|of",
            "contract": "my lease agreement|my employment contract|this licence agreement|the sales contract|this NDA",
        },
    ),
    Topic(
        "math_help",
        (
            "Mathematics problems and proofs",
            "Algebra, calculus, geometry and statistics",
            "Solving equations and exercises in mathematics",
            "Maths homework",
        ),
        ("{verb} {object} {extra}", "help me {verb} {object}", "prove the {theorem} theorem {extra}"),
        ("how do I {verb} {object} {extra}", "what does the {theorem} theorem say"),
        {
            "verb": "solve|compute|differentiate|integrate|simplify",
            "object": "this equation|the polynomial|a quadratic function|this matrix|the fraction|x squared plus one",
            "extra": "for x|by hand|with all steps|for my algebra homework",
            "theorem": "Pythagorean|binomial|central limit|mean value",
        },
    ),
    Topic(
        "calendar",
        (
            "Appointments, meetings and reminders",
            "Scheduling in the user's calendar",
            "Managing events and dates",
            "Meetings: planning, moving, cancelling",
        ),
        ("{verb} {event} with {person} {when}", "remind me of {event} {when}"),
        ("when is {event} with {person}", "am I free for {event} {when}"),
        {
            "verb": "schedule|move|cancel|postpone",
            "event": "the meeting|my appointment|the team call|the interview|lunch",
            "person": "Anna|my dentist|the sales team|Peter|my manager",
            "when": "on Monday|at noon|at three o'clock|on the first of May|tomorrow",
        },
    ),
    Topic(
        "shopping",
        (
            "Finding and buying products",
            "Product comparison, prices and orders",
            "Purchases in online shops",
            "Recommendations of goods to buy",
        ),
        ("{verb} {quality} {product} {limit}", "order {quality} {product} {limit} and track the delivery"),
        ("where can I buy {quality} {product} {limit}", "which {product} are the best {limit}"),
        {
            "verb": "buy|compare|order|find prices of",
            "quality": "cheap|good|used|waterproof",
            "product": "headphones|running shoes|laptops|phones|office chairs|backpacks|washing machines",
            "limit": "under 100 euros|on sale|with free shipping|for a gift|with good reviews",
        },
    ),
    Topic(
        "health_advice",
        (
            "Questions on symptoms and illnesses",
            "Medical information: symptoms, medicine, treatment",
            "Health complaints and remedies",
            "Advice when one feels ill",
        ),
        ("tell me what helps against {ill} {since}", "give me a remedy for {ill} {since}"),
        ("what should I take for {ill} {since}", "should I see a doctor about {ill} {since}", "what causes {ill}"),
        {
            "ill": "a headache|a fever|a sore throat|back pain|a skin rash|a cough|an allergy|dizziness",
            "since": "since yesterday|for a week|at night|after meals|during pregnancy",
        },
    ),
)

IRRELEVANT = Topic(
    OTHER,
    ("What no policy covers",),
    (
        "tell me a {mood} {tale} about {being}",
        "sing happy birthday to {being}",
        "guess the {fact} of {being}",
        "thanks, {done}{closing}",
        "great, {done}{closing}",
        "perfect, {done}{closing}",
    ),
    (
        "what do you think about {being} and {abstract}",
        "who won the {cup} {year}",
        "do you believe in {abstract}{filler}",
        "where do {being} come from{filler}",
        "are you {state}{filler}",
        "how are you {today}{filler}",
    ),
    {
        "mood": "funny|sad|silly|scary",
        "tale": "joke|story|riddle|rumour",
        "being": "penguins|pirates|aliens|dinosaurs|ghosts|unicorns|vampires",
        "fact": "age|name|favourite animal",
        "done": "that is all|that was it|I am done|that solved it|nothing else",
        "closing": "| for now|, goodbye|, see you|, have a nice day|, good night",
        "abstract": "love|fate|free will|luck|happiness",
        "cup": "world cup|chess final|football match|race|tennis match",
        "year": "in 1998|yesterday|last night|in 2010|last summer",
        "filler": "|, really|, honestly|, my friend",
        "state": "a human|alive|bored|happy|real|tired",
        "today": "today|doing|this morning|feeling",
    },
)

_RELATED = (
    {"code_generation", "bug_fixing", "code_explanation", "sql_queries"},
    {"image_editing", "image_creation"},
    {"summarisation", "translation", "email_writing"},
    {"travel_booking", "weather", "calendar"},
    {"tax_advice", "legal_contracts"},
    {"recipe_ideas", "fitness", "health_advice"},
    {"music", "shopping"},
)

_ASK_OPENINGS = (
    "",
    "",
    "",
    "please ",
    "can you ",
    "could you ",
    "I want you to ",
    "hi, ",
    "hello, please ",
    "now ",
    "ok, ",
    "next, ",
)
_ASK_ENDINGS = ("", "", ".", ", please", ", thanks")
_QUESTION_OPENINGS = ("", "", "", "hi, ", "hello, ", "ok, ", "now, ", "one question: ")
_QUESTION_ENDINGS = ("?", "?", "")
_REPLIES = (
    "Sure, here it is.",
    "Done. Anything else?",
    "Of course. Here is what I found.",
    "Here you are. Tell me if you want a change.",
    "I can do that. Which one do you mean?",
    "That depends. Could you give me more details?",
    "Certainly! Let me know whether it helps.",
    "No problem, it is ready.",
)


@cache
def utterances(topic_name: str, held_out: bool) -> tuple[Utterance, ...]:
    """Every utterance of a topic (`other`: of no topic) that is held out, or every one that is not."""
    topic = next(topic for topic in (*TOPICS, IRRELEVANT) if topic.name == topic_name)
    patterns = [(pattern, False) for pattern in topic.asks] + [(pattern, True) for pattern in topic.questions]
    filled = [Utterance(text, question) for pattern, question in patterns for text in _fillings(pattern, topic.slots)]
    return tuple(utterance for utterance in filled if _is_held_out(utterance.text) == held_out)


def draw_case(rng: Random, kind: Kind, *, held_out: bool, sizes: Sequence[int], topic: Topic | None = None) -> Case:
    """A case of the given kind.

    Args:
        rng: Source of every choice.
        kind: What the case tests.
        held_out: Whether its utterances are those never trained on.
        sizes: How many policies may be on offer; one of these is drawn.
        topic: What the last user turn asks for; drawn if not given. An irrelevant case has none.
    """
    topic = topic or rng.choice(TOPICS)
    listed = _listed(rng, kind, topic, rng.choice(sizes))
    last = IRRELEVANT if kind == "irrelevant" else topic
    earlier = rng.choice((1, 1, 2, 3)) if kind == "multi_turn" or (kind != "single" and rng.random() < 0.5) else 0
    turns: list[Turn] = []
    for _ in range(earlier):
        # Most earlier turns are about a listed policy, so that only the last turn tells what is wanted now.
        names = [policy.name for policy in listed] if rng.random() < 0.8 else [other.name for other in TOPICS]
        elsewhere = [name for name in names if name != topic.name] or [IRRELEVANT.name]
        turns.append(Turn("user", _say(rng, rng.choice(elsewhere), held_out)))
        turns.append(Turn("assistant", " ".join(rng.sample(_REPLIES, rng.choice((1, 1, 2))))))
    turns.append(Turn("user", _say(rng, last.name, held_out)))
    answer = topic.name if kind in ("single", "multi_turn") else OTHER
    return Case(tuple(listed), Conversation(tuple(turns)), answer, kind)


def _fillings(pattern: str, slots: dict[str, str]) -> list[str]:
    """`pattern` with its slots filled in every way."""
    names = list(dict.fromkeys(name for _, name, _, _ in string.Formatter().parse(pattern) if name))
    choices = itertools.product(*(slots[name].split("|") for name in names))
    return [pattern.format(**dict(zip(names, words, strict=True))) for words in choices]


def _is_held_out(text: str) -> bool:
    """Whether an utterance is never trained on; the same in every process, which `hash` is not."""
    return zlib.crc32(text.encode()) % 100 < HELD_OUT_PERCENT


def _listed(rng: Random, kind: Kind, topic: Topic, size: int) -> list[Policy]:
    """The policies on offer: `topic` among them exactly if the kind says so."""
    others = [other for other in TOPICS if other is not topic]
    chosen = rng.sample(others, size)
    # A request must not go to a policy merely close to its own, so close ones are often on offer.
    related = [other for other in others if any({topic.name, other.name} <= group for group in _RELATED)]
    if related and rng.random() < 0.5:
        close = rng.choice(related)
        chosen = [close, *(other for other in chosen if other is not close)][:size]
    if kind in ("single", "multi_turn"):
        chosen[-1] = topic
    rng.shuffle(chosen)
    return [Policy(other.name, rng.choice(other.descriptions)) for other in chosen]


def _say(rng: Random, topic_name: str, held_out: bool) -> str:
    """An utterance of a topic, as somebody would type it."""
    # The patterns have very different numbers of fillings; the choice of form first gives questions their share.
    question = rng.random() < 0.4
    pool = utterances(topic_name, held_out)
    utterance = rng.choice([one for one in pool if one.is_question == question])
    openings, endings = (_QUESTION_OPENINGS, _QUESTION_ENDINGS) if question else (_ASK_OPENINGS, _ASK_ENDINGS)
    if topic_name == IRRELEVANT.name and not question:
        openings = ("",)
    text = rng.choice(openings) + utterance.text + rng.choice(endings)
    return text[0].upper() + text[1:] if rng.random() < 0.5 else text
