"""What the demo model knows about qwenkit, and the many ways a person may ask. Plain data, no text
rendering and no chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["setting", "command", "concept", "howto", "fact"]

_FRAMES: Final[dict[Kind, tuple[str, ...]]] = {
    "setting": (
        "What does {} do?",
        "What is {}?",
        "What is {} for?",
        "Explain {}",
        "Tell me about {}",
        "How do I use {}?",
        "What is the {} setting?",
        "What does the setting {} do?",
        "What should I put in {}?",
        "{}?",
    ),
    "command": (
        "What does {} do?",
        "What is {}?",
        "What is {} for?",
        "Explain {}",
        "Tell me about {}",
        "How do I use {}?",
        "What does the command {} do?",
        "When do I need {}?",
        "{}?",
    ),
    "concept": (
        "What is {}?",
        "What's {}?",
        "What does {} mean?",
        "Explain {}",
        "Tell me about {}",
        "Define {}",
        "Can you explain {}?",
        "What do you know about {}?",
        "{}?",
    ),
    "howto": (
        "How do I {}?",
        "How can I {}?",
        "How to {}?",
        "I want to {}",
        "Show me how to {}",
        "What do I type to {}?",
        "Can you tell me how to {}?",
        "What is the way to {}?",
    ),
    "fact": ("{}",),
}

_CLOSINGS: Final[dict[Kind, str]] = {
    "setting": "It is a setting.",
    "command": "It is a command.",
    "concept": "I can say what it means.",
    "howto": "I know how that is done.",
    "fact": "I know that.",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing worth knowing.

    Args:
        kind: Decides the frames that `names` are put into.
        topic: What the question is about, as the reasoning names it.
        names: Fillers of the frames; for the kind "fact", whole questions.
        answer: One or two sentences that also stand alone as prose.
    """

    kind: Kind
    topic: str
    names: tuple[str, ...]
    answer: str

    @property
    def questions(self) -> tuple[str, ...]:
        """Every phrasing, in a fixed order."""
        return tuple(frame.format(name) for name in self.names for frame in _FRAMES[self.kind])

    @property
    def unseen(self) -> str:
        """The phrasing that training never shows, so that the exam can ask it."""
        # The first two are what nearly everybody asks, so they are always taught.
        others = self.questions[2:9]
        return others[sum(map(ord, self.topic)) % len(others)]

    @property
    def seen(self) -> tuple[str, ...]:
        """The phrasings that training may show."""
        return tuple(question for question in self.questions if question != self.unseen)

    @property
    def thought(self) -> str:
        """The reasoning before the answer."""
        return f"The user asks about {self.topic}. {_CLOSINGS[self.kind]}"


def _setting(name: str, answer: str) -> Fact:
    return Fact("setting", name, (name,), answer)


def _command(name: str, answer: str) -> Fact:
    return Fact("command", f"qwenkit {name}", (f"qwenkit {name}", f"`qwenkit {name}`"), answer)


def _concept(names: str | tuple[str, ...], answer: str) -> Fact:
    names = (names,) if isinstance(names, str) else names
    return Fact("concept", names[0], names, answer)


def _howto(acts: str | tuple[str, ...], answer: str) -> Fact:
    acts = (acts,) if isinstance(acts, str) else acts
    return Fact("howto", f"how to {acts[0]}", acts, answer)


def _fact(topic: str, questions: tuple[str, ...], answer: str) -> Fact:
    return Fact("fact", topic, questions, answer)


SETTINGS: Final = (
    _setting(
        "MODEL_PATH",
        "MODEL_PATH names the model to serve: a Hub id such as Qwen/Qwen3-8B, a safetensors "
        "folder, a GGUF file or an ONNX folder.",
    ),
    _setting("RUNTIME_BACKEND", "RUNTIME_BACKEND picks the runtime: llama.cpp or onnx."),
    _setting("N_CTX", "N_CTX is the context length in tokens. 0 takes the context of the model."),
    _setting("LORA_PATHS", "LORA_PATHS is a glob of LoRA adapters to load when the server starts."),
    _setting("API_KEYS", "API_KEYS lists the keys that clients must send as a bearer token."),
    _setting("ADMIN_API_KEYS", "ADMIN_API_KEYS lists the keys that may change the running server."),
    _setting("N_GPU_LAYERS", "N_GPU_LAYERS says how many layers run on the GPU. -1 means all."),
    _setting(
        "ROPE_SCALING",
        "ROPE_SCALING says whether YaRN may stretch the context: auto, yarn or none.",
    ),
    _setting("LOG_DIR", "LOG_DIR is the folder of the JSONL logs. The default is ./logs."),
    _setting("DATABASE_URL", "DATABASE_URL keeps the threads of the agent in PostgreSQL."),
    _setting("MCP_CONFIG", "MCP_CONFIG names the file that lists the MCP servers you trust."),
    _setting(
        "OPENAI_API_BASE_URL",
        "OPENAI_API_BASE_URL is the address of the server that the chat and the agent talk to.",
    ),
    _setting("QWENKIT_HOME", "QWENKIT_HOME is the folder for adapters and converted weights."),
    _setting("LANGFUSE_API_KEY", "LANGFUSE_API_KEY holds the public and secret key of Langfuse."),
    _setting("LABEL_STUDIO_URL", "LABEL_STUDIO_URL is the address of your Label Studio server."),
)

COMMANDS: Final = (
    _command("serve", "qwenkit serve starts the server: OpenAI API, agent, MCP and a chat page."),
    _command("chat", "qwenkit chat opens a chat with the model in your terminal."),
    _command("finetune", "qwenkit finetune trains a LoRA adapter on your own data."),
    _command("quantize", "qwenkit quantize shrinks a GGUF model and reports the loss of quality."),
    _command("export-onnx", "qwenkit export-onnx turns safetensors into an ONNX folder."),
    _command("lora load", "qwenkit lora load puts an adapter into the running server."),
    _command("lora unload", "qwenkit lora unload takes an adapter out of the running server."),
    _command("lora list", "qwenkit lora list shows the adapters that are loaded."),
    _command("lora merge", "qwenkit lora merge writes an adapter into the weights for good."),
    _command("feedback export", "qwenkit feedback export turns the ratings in the log into data."),
    _command("feedback stats", "qwenkit feedback stats counts the ratings in the log."),
    _command("model pull", "qwenkit model pull downloads a model from the Hub."),
    _command("model list", "qwenkit model list shows the models on this machine."),
    _command("model info", "qwenkit model info shows what a model file holds."),
    _command("model convert", "qwenkit model convert turns safetensors into GGUF."),
    _command("mcp serve", "qwenkit mcp serve offers the tools of qwenkit over stdio."),
    _command("mcp tools", "qwenkit mcp tools lists the tools of the configured MCP servers."),
    _command("bench", "qwenkit bench measures tokens per second and the time to the first token."),
    _command("doctor", "qwenkit doctor checks what this machine can run."),
)

CONCEPTS: Final = (
    _concept(
        ("LoRA", "a LoRA adapter"), "LoRA trains two small matrices beside each frozen weight."
    ),
    _concept(
        ("DPO", "direct preference optimization"),
        "DPO trains on pairs of a chosen and a rejected answer, without a reward model.",
    ),
    _concept("KTO", "KTO trains on single answers marked good or bad, so a thumb is enough."),
    _concept("SFT", "SFT is supervised fine-tuning: the model learns to repeat good answers."),
    _concept(
        ("QAT", "quantization aware training"),
        "QAT trains with rounded weights, so that the quantised model loses less.",
    ),
    _concept(("GGUF", "a GGUF file"), "GGUF is the one-file model format of llama.cpp."),
    _concept("YaRN", "YaRN stretches the positions, so that Qwen3-8B reads up to 131072 tokens."),
    _concept(
        ("the KV cache", "a KV cache"),
        "The KV cache keeps the keys and values of tokens that were already read.",
    ),
    _concept(
        ("the prefix cache", "prefix caching"),
        "The prefix cache lets requests share the work for a common beginning.",
    ),
    _concept("MCP", "MCP is the Model Context Protocol: a common way to offer tools to models."),
    _concept(
        ("quantization", "quantisation"),
        "Quantization stores weights in fewer bits, so that a model needs less memory.",
    ),
    _concept(
        ("ONNX", "ONNX Runtime"),
        "ONNX is an open model format. qwenkit runs it with ONNX Runtime GenAI.",
    ),
    _concept("safetensors", "safetensors is a file format for weights that can hold no code."),
    _concept("a token", "A token is a piece of text, often a word or a part of one."),
    _concept(("a tokenizer", "the tokenizer"), "A tokenizer cuts text into tokens and joins them."),
    _concept(
        ("the context window", "context length"),
        "The context window is the number of tokens that a model can see at once.",
    ),
    _concept(
        "continuous batching",
        "Continuous batching lets requests join and leave a batch at every step.",
    ),
    _concept(
        "speculative decoding",
        "Speculative decoding guesses several tokens and checks them in one step.",
    ),
    _concept(
        ("a chat template", "the chat template"),
        "A chat template turns messages into the text that the model reads.",
    ),
    _concept(
        ("a tool call", "tool calling"),
        "In a tool call the model asks the program to run a function and waits for the result.",
    ),
    _concept("temperature", "Temperature sets how bold the sampling is. Lower is safer."),
    _concept("top_p", "top_p keeps the likeliest tokens whose chances add up to p."),
    _concept(
        ("thinking mode", "thinking"),
        "In thinking mode the model reasons inside a think block before it answers.",
    ),
    _concept(
        ("a thinking budget", "the thinking budget"),
        "A thinking budget limits how many tokens the model may spend on its reasoning.",
    ),
    _concept(
        "a preference pair", "A preference pair is a question with a chosen and a rejected answer."
    ),
    _concept("fine-tuning", "Fine-tuning trains a model a little more on your own examples."),
    _concept("LangGraph", "LangGraph runs the agent of qwenkit and keeps its threads."),
    _concept(
        "llama.cpp", "llama.cpp is the default runtime. It runs GGUF models on a CPU or a GPU."
    ),
    _concept(
        ("Qwen3-8B", "Qwen3"),
        "Qwen3-8B is an open language model with 8 billion parameters. qwenkit is made for it.",
    ),
    _concept("Langfuse", "Langfuse collects traces and scores. qwenkit can push and pull them."),
    _concept("Label Studio", "Label Studio is a tool for people who rate and correct answers."),
    _concept("Q4_K_M", "Q4_K_M is a GGUF type of about 4.8 bits a weight, a good first choice."),
)

HOWTOS: Final = (
    _howto(
        ("install qwenkit", "install it", "set up qwenkit"),
        "Type `pip install .` in the folder of qwenkit.",
    ),
    _howto(
        ("start the server", "serve a model", "run the server"),
        "Type `qwenkit serve`. Then open http://127.0.0.1:8000 in a browser.",
    ),
    _howto(
        ("chat in the terminal", "chat with the model", "talk to the model"), "Type `qwenkit chat`."
    ),
    _howto(
        ("choose a model", "set the model", "use my own model", "change the model"),
        "Set MODEL_PATH, for example MODEL_PATH=Qwen/Qwen3-8B-GGUF:Q4_K_M.",
    ),
    _howto(
        ("serve Qwen3-8B", "use the real model", "run Qwen3-8B"),
        "Set MODEL_PATH=Qwen/Qwen3-8B and type `qwenkit serve`.",
    ),
    _howto(("change the port", "use another port"), "Type `qwenkit serve --port 9000`."),
    _howto(
        ("choose the runtime", "use ONNX", "switch the backend"),
        "Set RUNTIME_BACKEND to llama.cpp or onnx.",
    ),
    _howto(
        ("train a LoRA", "train an adapter", "fine-tune the model", "teach the model"),
        "Type `qwenkit finetune --method sft`. Other methods are dpo and kto.",
    ),
    _howto(
        ("load an adapter", "load a LoRA", "hot-load an adapter"),
        "Type `qwenkit lora load`. The server does not stop.",
    ),
    _howto(
        ("make a model smaller", "shrink a model", "quantize a model"),
        "Type `qwenkit quantize` with the GGUF file and the type that you want.",
    ),
    _howto(
        ("turn off thinking", "stop the thinking", "disable reasoning"),
        "Add /no_think to your message, or set enable_thinking to false.",
    ),
    _howto(
        ("turn on thinking", "enable reasoning", "make the model think"),
        "Add /think to your message. Thinking is on by default.",
    ),
    _howto(
        ("protect the server", "require a key", "add an API key"),
        "Set API_KEYS. Clients then send a key as a bearer token.",
    ),
    _howto(
        ("rate an answer", "give feedback", "give a thumb"),
        "Use the thumbs in the chat page, or rate in `qwenkit chat`.",
    ),
    _howto(
        ("export feedback", "export my ratings", "get DPO data"),
        "Type `qwenkit feedback export`. It writes DPO, KTO or SFT data.",
    ),
    _howto(("download a model", "get the weights"), "Type `qwenkit model pull` with a Hub id."),
    _howto(
        ("use a longer context", "read long documents", "enable YaRN"),
        "Raise N_CTX. Over the context of the model, YaRN stretches it.",
    ),
    _howto(
        ("use the GPU", "run on a GPU"),
        "All layers go to the GPU by default. N_GPU_LAYERS can set fewer.",
    ),
    _howto(("measure the speed", "benchmark my machine"), "Type `qwenkit bench`."),
    _howto(("check my machine", "find out what my machine can run"), "Type `qwenkit doctor`."),
    _howto(
        ("get JSON", "force a JSON schema", "get structured output"),
        "Send response_format with a JSON schema. The answer will match it.",
    ),
    _howto(
        ("add tools", "connect MCP servers"), "List your MCP servers in the file of MCP_CONFIG."
    ),
    _howto(
        ("install the training extra", "install everything for training"),
        "Type `pip install '.[train]'`.",
    ),
    _howto(
        ("train the demo model", "retrain the demo model"),
        "Type `python -m qwenkit.training.demo`. It takes minutes on two cores.",
    ),
)

GENERAL: Final = (
    _fact(
        "qwenkit",
        (
            "What is qwenkit?",
            "What's qwenkit?",
            "Tell me about qwenkit",
            "Explain qwenkit",
            "What does qwenkit do?",
            "What is qwenkit for?",
            "Describe qwenkit",
            "qwenkit?",
            "What can qwenkit do?",
            "Can you explain qwenkit?",
        ),
        "qwenkit is a Python toolkit that serves, teaches and ships Qwen3-8B on your own machine.",
    ),
    _fact(
        "me",
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "What's your name?",
            "Which model are you?",
            "Tell me about yourself",
            "Introduce yourself",
            "What model is this?",
            "Are you Qwen3-8B?",
            "Are you ChatGPT?",
            "Who am I talking to?",
        ),
        "I am qwenkit-demo, a tiny model for trying qwenkit, not for real questions.",
    ),
    _fact(
        "the demo model",
        (
            "What is the demo model?",
            "What is qwenkit-demo?",
            "Tell me about the demo model",
            "Explain the demo model",
            "What's the demo model?",
            "What is this demo?",
            "Is this a demo?",
            "Are you a demo?",
            "Are you a real model?",
        ),
        "The demo model is a tiny model of about 2.9 million parameters, good for trying "
        "qwenkit, not for real questions.",
    ),
    _fact(
        "my size",
        (
            "How big are you?",
            "How many parameters do you have?",
            "What is your size?",
            "How large is the demo model?",
            "How small are you?",
            "How many parameters does the demo model have?",
        ),
        "I have about 2.9 million parameters. Qwen3-8B has about 3000 times more.",
    ),
    _fact(
        "my training",
        (
            "Who made you?",
            "How were you trained?",
            "Who trained you?",
            "Where do you come from?",
            "Who created you?",
            "How were you made?",
        ),
        "I was trained by the recipe in qwenkit: python -m qwenkit.training.demo.",
    ),
    _fact(
        "what I can do",
        (
            "What can you do?",
            "What can I ask you?",
            "What do you know?",
            "Help",
            "help me",
            "How can you help me?",
            "What are you good at?",
            "Can you help me?",
        ),
        "I answer questions about qwenkit, think first, and call tools such as a calculator "
        "or a clock.",
    ),
    _fact(
        "the licence",
        (
            "What is the licence?",
            "What is the license of qwenkit?",
            "Which licence does it have?",
            "Is qwenkit free?",
            "Is qwenkit open source?",
            "What licence does qwenkit use?",
            "licence?",
            "Under which license is qwenkit?",
        ),
        "qwenkit is open source under the Apache-2.0 licence.",
    ),
    _fact(
        "the Python version",
        (
            "Which Python do I need?",
            "What Python version does qwenkit need?",
            "Python version?",
            "Does it work with Python 3.11?",
            "Which Python versions work?",
            "What version of Python do I need?",
        ),
        "qwenkit needs Python 3.11 or newer.",
    ),
    _fact(
        "the port",
        (
            "What is the default port?",
            "Which port does the server use?",
            "What port is it on?",
            "On which port does qwenkit serve listen?",
            "port?",
            "What is the port?",
            "Where does the server listen?",
            "What's the default port?",
        ),
        "The default port is 8000. The server listens on 127.0.0.1.",
    ),
    _fact(
        "the API",
        (
            "Which API does the server speak?",
            "Is it compatible with OpenAI?",
            "What is the API?",
            "Does it have an OpenAI API?",
            "Can I use the OpenAI client?",
            "Does the openai client work?",
        ),
        "The server speaks the OpenAI API under /v1, so OpenAI clients work unchanged.",
    ),
    _fact(
        "the routes",
        (
            "Which endpoints are there?",
            "What routes does the server have?",
            "Which URLs exist?",
            "What are the endpoints?",
            "List the endpoints",
        ),
        "The main routes are /v1/chat/completions, /v1/completions and /v1/models.",
    ),
    _fact(
        "the chat page",
        (
            "Where is the chat page?",
            "Is there a web UI?",
            "Does it have a web interface?",
            "Where is the chat UI?",
            "Can I chat in the browser?",
            "How do I open the web page?",
        ),
        "The chat page is at http://127.0.0.1:8000 while the server runs.",
    ),
    _fact(
        "health checks",
        (
            "Is there a health check?",
            "How do I check that the server is up?",
            "Where is the health check?",
            "Which route says that the server is ready?",
        ),
        "Ask /healthz whether the server lives and /readyz whether it is ready.",
    ),
    _fact(
        "metrics",
        (
            "Where are the metrics?",
            "Does it have metrics?",
            "Is there a Prometheus endpoint?",
            "How do I monitor the server?",
            "Can Prometheus watch the server?",
        ),
        "The server shows Prometheus metrics at /metrics.",
    ),
    _fact(
        "the runtimes",
        (
            "Which runtimes are there?",
            "What runtimes does qwenkit have?",
            "Which backends exist?",
            "What backends can I use?",
            "List the runtimes",
            "Which runtime can I choose?",
            "What are the backends?",
        ),
        "There are two runtimes: llama.cpp, the default, and ONNX Runtime GenAI.",
    ),
    _fact(
        "the logs",
        (
            "Where do the logs go?",
            "Where are the logs?",
            "Where can I find the logs?",
            "Which folder has the logs?",
            "What is logged?",
            "Where is my feedback kept?",
            "Where do logs go?",
        ),
        "The logs go to LOG_DIR, by default ./logs: one JSON line for every answer and rating.",
    ),
    _fact(
        "the commands",
        (
            "Which commands are there?",
            "What commands exist?",
            "List the commands",
            "What commands does qwenkit have?",
            "Which commands can I use?",
            "Show me the commands",
            "commands?",
        ),
        "The commands are serve, chat, finetune, quantize, export-onnx, lora, feedback, model, "
        "mcp, bench and doctor.",
    ),
    _fact(
        "the context of Qwen3-8B",
        (
            "How long is the context of Qwen3-8B?",
            "How many tokens can Qwen3-8B read?",
            "What is the maximum context?",
            "How long can my prompt be?",
        ),
        "Qwen3-8B reads 32768 tokens, and 131072 with YaRN.",
    ),
    _fact(
        "sampling",
        (
            "Which sampling settings are used?",
            "What is the default temperature?",
            "What are the sampling presets?",
            "Which temperature should I use?",
            "What sampling does Qwen3 want?",
        ),
        "Thinking uses temperature 0.6 and top_p 0.95. Without thinking it is 0.7 and 0.8.",
    ),
    _fact(
        "memory",
        (
            "How much memory do I need?",
            "How much RAM does Qwen3-8B need?",
            "How much RAM is needed?",
            "How big is Qwen3-8B?",
            "Will it fit in 8 GB?",
        ),
        "In Q4_K_M, Qwen3-8B needs about 5 GB of memory, and more for a long context.",
    ),
    _fact(
        "the feedback loop",
        (
            "What is the feedback loop?",
            "How does qwenkit learn from feedback?",
            "How does it learn from thumbs?",
            "What makes qwenkit special?",
            "What happens to my ratings?",
            "Why should I use qwenkit?",
        ),
        "A rated answer becomes a preference pair, the pair trains an adapter, and the adapter is "
        "loaded into the running server.",
    ),
    _fact(
        "the formats of feedback",
        (
            "Which formats does feedback export write?",
            "What data can feedback become?",
            "Which data sets can I export?",
            "What formats can I export feedback to?",
        ),
        "Feedback can become DPO, KTO, PPO, TRLx or SFT data.",
    ),
    _fact(
        "training methods",
        (
            "Which training methods are there?",
            "What methods does finetune have?",
            "How can I train?",
            "What training does qwenkit support?",
            "List the training methods",
        ),
        "qwenkit finetune knows SFT, DPO and KTO, with QAT if you like.",
    ),
    _fact(
        "the internet",
        (
            "Does it work offline?",
            "Do I need the internet?",
            "Is my data private?",
            "Does my data leave the machine?",
            "Do you send data to the cloud?",
        ),
        "Everything runs on your own machine, and no data leaves it.",
    ),
    _fact(
        "the extras",
        (
            "Which extras are there?",
            "What extras can I install?",
            "List the extras",
            "What are the optional packages?",
        ),
        "The extras are onnx, train, agent, langfuse, label-studio, optimum and all.",
    ),
    _fact(
        "the operating system",
        (
            "Does it run on Linux?",
            "Which systems does it run on?",
            "Does it run on a Mac?",
            "Can I use it on macOS?",
            "What operating systems work?",
        ),
        "qwenkit runs on Linux and macOS.",
    ),
    _fact(
        "the GPU",
        (
            "Do I need a GPU?",
            "Does it run on a CPU?",
            "Can I run it without a GPU?",
            "Is a GPU needed?",
            "Does it need CUDA?",
        ),
        "A CPU is enough. A GPU makes it faster.",
    ),
    _fact(
        "safety of adapters",
        (
            "Which adapter formats are safe?",
            "Can I load pickle files?",
            "Which adapters load?",
            "What adapter formats work?",
        ),
        "Adapters are safetensors, GGUF or ONNX files. Pickle is never loaded.",
    ),
)

FACTS: Final[tuple[Fact, ...]] = SETTINGS + COMMANDS + CONCEPTS + HOWTOS + GENERAL
