"""The text that the tiny model learns from: short dialogues, generated from templates, the same for the same seed."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

Dialogue = list[tuple[str, str]]
"""(role, text) pairs; roles are system, user, assistant and tool."""

CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Greece": "Athens", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Ireland": "Dublin", "Japan": "Tokyo", "China": "Beijing",
    "India": "New Delhi", "Egypt": "Cairo", "Kenya": "Nairobi", "Peru": "Lima", "Chile": "Santiago",
    "Canada": "Ottawa", "Cuba": "Havana", "Hungary": "Budapest", "Belgium": "Brussels", "Turkey": "Ankara",
}  # fmt: skip

FACTS = {
    "Penstock": "Penstock serves AI models on one machine with one command, and on a Kubernetes cluster with the same manifests.",
    "an InferenceService": "An InferenceService is an object that declares a model to serve. Penstock makes it run.",
    "a KV cache": "A KV cache keeps the keys and values of past tokens, so that they are not computed again.",
    "a token": "A token is a piece of text, often a word or a part of a word, that a model reads or writes.",
    "a gateway": "A gateway takes each request and sends it to a replica that can answer it.",
    "a replica": "A replica is one running copy of a model server.",
    "a runtime": "A runtime is a manifest that says which program serves a model and how to start it.",
    "an engine": "An engine is the process that runs the model and answers requests.",
    "an endpoint": "An endpoint is a replica as the gateway sees it: an address and a port.",
    "scale to zero": "Scale to zero means that a service without requests gives its memory back and wakes when asked.",
    "prefix caching": "Prefix caching reuses the KV cache of a prompt that begins like an earlier one.",
    "continuous batching": "Continuous batching lets new requests join a running batch at every step.",
    "a rolling update": "A rolling update replaces old pods by new ones without a gap.",
    "a canary": "A canary is a new version that first gets a small share of the requests.",
    "a GPU": "A GPU is a processor with many small cores that is good at matrix work.",
    "a pod": "A pod is the smallest thing that Kubernetes runs. In Penstock it is one replica.",
    "latency": "Latency is the time from a request to its answer.",
    "throughput": "Throughput is how much work is done in a second.",
    "Kubernetes": "Kubernetes is a system that runs programs on many machines.",
    "KServe": "KServe is a standard way to serve models on Kubernetes. Penstock speaks its API.",
    "a model": "A model is a function with learned numbers. A language model predicts the next token.",
    "a penstock": "A penstock is a gated pipe that feeds water to turbines.",
    "time to first token": "Time to first token is how long a user waits until the answer begins.",
    "a prompt": "A prompt is the text that a user gives to a model.",
}

IDENTITY = (
    "I am Penstock's tiny demonstration model. I have one million parameters and know only a few things."
)
ABOUT_SELF = {
    "Who are you?": IDENTITY,
    "What are you?": IDENTITY,
    "What is your name?": "I am called penstock-tiny. I am a demonstration model.",
    "Are you a real model?": "Yes, I am a real language model, but a tiny one. I am only a demonstration.",
    "What can you do?": "I can answer short questions about Penstock, name some capitals, and add small numbers.",
    "Who made you?": "The Penstock project made me, with a script that anyone can run again.",
    "How big are you?": "I have about one million parameters. That is very small for a language model.",
    "Can I trust you?": "No. I am a demonstration model. Please use a larger model for real work.",
}
GREETINGS = {
    "Hello": "Hello! How can I help you?", "Hi": "Hello! How can I help you?", "Hey": "Hello! How can I help you?",
    "Good morning": "Good morning! How can I help you?", "Good evening": "Good evening! How can I help you?",
    "Thank you": "You are welcome.", "Thanks": "You are welcome.", "Goodbye": "Goodbye!", "Bye": "Goodbye!",
    "How are you?": "I am fine, thank you. I am a small model and never tired.",
}  # fmt: skip
COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a ripe tomato": "red", "a lemon": "yellow",
    "an orange": "orange", "the sea": "blue", "blood": "red", "milk": "white", "a violet": "purple", "mud": "brown",
}  # fmt: skip
SOUNDS = {
    "dog": "barks", "cat": "meows", "cow": "moos", "horse": "neighs", "duck": "quacks", "lion": "roars",
    "sheep": "bleats", "bird": "sings", "bee": "buzzes", "wolf": "howls",
}  # fmt: skip
NAMES = (
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Felix",
    "Grace",
    "Henry",
    "Ida",
    "Jack",
    "Lena",
    "Max",
    "Nora",
    "Oscar",
)
PLACES = (
    "river",
    "forest",
    "mountain",
    "village",
    "harbour",
    "garden",
    "market",
    "library",
    "bridge",
    "lake",
)
THINGS = ("key", "lamp", "book", "map", "coin", "letter", "stone", "boat", "bell", "rope", "clock", "ring")
UNKNOWN = (
    "Who won the match yesterday?", "What is the weather tomorrow?", "What is the price of gold?",
    "What did I eat today?", "Who is the richest person?", "What time is it?", "Where do I live?",
    "What is my password?", "Which film is the best?", "Will it rain next week?",
)  # fmt: skip
SYSTEMS = (
    "You are a helpful assistant.",
    "Answer briefly.",
    "You are Penstock's demonstration model.",
    "Be polite.",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def dialogues(count: int, seed: int = 7) -> Iterator[Dialogue]:
    """`count` dialogues; every fact occurs about equally often."""
    rng = random.Random(seed)
    makers = (_fact, _fact, _fact, _capital, _capital, _sum, _self, _greeting, _colour, _sound, _story, _repeat,
              _json_answer, _unknown, _reading, _tool)  # fmt: skip
    for _ in range(count):
        turns = rng.choice(makers)(rng)
        if rng.random() < 0.15 and turns[0][0] == "user":
            turns = [*turns, *[turn for turn in rng.choice(makers[:12])(rng) if turn[0] != "system"]]
        if rng.random() < 0.3 and turns[0][0] == "user":
            turns = [("system", rng.choice(SYSTEMS)), *turns]
        yield turns


def _fact(rng: random.Random) -> Dialogue:
    subject = rng.choice(tuple(FACTS))
    form = rng.choice(("What is {}?", "What is {}?", "Explain {}.", "Tell me what {} is.", "what is {}"))
    return [("user", form.format(subject)), ("assistant", FACTS[subject])]


def _capital(rng: random.Random) -> Dialogue:
    country = rng.choice(tuple(CAPITALS))
    form = rng.choice(
        (
            "What is the capital of {}?",
            "What is the capital of {}?",
            "Name the capital of {}.",
            "capital of {}?",
        )
    )
    return [
        ("user", form.format(country)),
        ("assistant", f"The capital of {country} is {CAPITALS[country]}."),
    ]


def _sum(rng: random.Random) -> Dialogue:
    a, b = rng.randint(0, 12), rng.randint(0, 12)
    form = rng.choice(("What is {} plus {}?", "What is {} + {}?", "How much is {} plus {}?"))
    return [("user", form.format(a, b)), ("assistant", f"{a} plus {b} is {a + b}.")]


def _self(rng: random.Random) -> Dialogue:
    question = rng.choice(tuple(ABOUT_SELF))
    return [("user", question), ("assistant", ABOUT_SELF[question])]


def _greeting(rng: random.Random) -> Dialogue:
    greeting = rng.choice(tuple(GREETINGS))
    end = "" if greeting.endswith("?") else rng.choice(("", "!", "."))
    return [("user", greeting + end), ("assistant", GREETINGS[greeting])]


def _colour(rng: random.Random) -> Dialogue:
    thing = rng.choice(tuple(COLOURS))
    answer = f"{thing[0].upper()}{thing[1:]} is {COLOURS[thing]}."
    return [("user", f"What colour is {thing}?"), ("assistant", answer)]


def _sound(rng: random.Random) -> Dialogue:
    animal = rng.choice(tuple(SOUNDS))
    return [("user", f"What does a {animal} do?"), ("assistant", f"A {animal} {SOUNDS[animal]}.")]


def _story(rng: random.Random) -> Dialogue:
    name, friend = rng.sample(NAMES, 2)
    place, thing = rng.choice(PLACES), rng.choice(THINGS)
    asked = rng.choice(("Tell me a short story.", "Tell me a story.", f"Tell me a story about {name}."))
    text = (
        f"One morning {name} went to the {place}. There {name} found an old {thing}. "
        f"It belonged to {friend}, who had lost it long ago. {name} gave the {thing} back. "
        f"From that day on {name} and {friend} were friends."
    )
    return [("user", asked), ("assistant", text)]


def _repeat(rng: random.Random) -> Dialogue:
    words = " ".join(rng.choice(THINGS + PLACES) for _ in range(rng.randint(2, 6)))
    return [("user", f"Repeat these words: {words}"), ("assistant", words)]


def _json_answer(rng: random.Random) -> Dialogue:
    country = rng.choice(tuple(CAPITALS))
    answer = json.dumps({"country": country, "capital": CAPITALS[country]})
    return [("user", f"Give the capital of {country} as JSON."), ("assistant", answer)]


def _unknown(rng: random.Random) -> Dialogue:
    return [
        ("user", rng.choice(UNKNOWN)),
        ("assistant", "I do not know. I am only a small demonstration model."),
    ]


def _reading(rng: random.Random) -> Dialogue:
    name, place, thing = rng.choice(NAMES), rng.choice(PLACES), rng.choice(THINGS)
    text = f"{name} is at the {place} and has a {thing}."
    question, answer = rng.choice(
        (
            (f"Where is {name}?", f"{name} is at the {place}."),
            (f"What does {name} have?", f"{name} has a {thing}."),
        )
    )
    return [("user", f"{text} {question}"), ("assistant", answer)]


def _tool(rng: random.Random) -> Dialogue:
    city = rng.choice(tuple(CAPITALS.values()))
    call = json.dumps({"name": "get_weather", "arguments": {"city": city}})
    first: Dialogue = [
        ("system", f"You can call these tools:\n{json.dumps(TOOL)}"),
        ("user", f"How is the weather in {city}?"),
        ("assistant", f"<tool_call>\n{call}\n</tool_call>"),
    ]
    if rng.random() < 0.4:
        sky = rng.choice(("sunny", "rainy", "cloudy"))
        first += [("tool", json.dumps({"weather": sky})), ("assistant", f"The weather in {city} is {sky}.")]
    return first


def as_text(turns: Dialogue) -> str:
    """The dialogue as the chat template writes it."""
    return "".join(
        f"<|{role}|>\n{text}<|end|>\n" if role == "assistant" else f"<|{role}|>\n{text}\n"
        for role, text in turns
    )


def questions() -> list[tuple[str, str]]:
    """Question and expected answer, for the check after training."""
    fixed = [(f"What is {subject}?", answer) for subject, answer in FACTS.items()]
    fixed += list(ABOUT_SELF.items()) + list(GREETINGS.items())
    fixed += [(f"What is the capital of {c}?", f"The capital of {c} is {CAPITALS[c]}.") for c in CAPITALS]
    fixed += [
        (f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}.") for a in range(2, 8) for b in range(2, 8)
    ]
    return fixed
