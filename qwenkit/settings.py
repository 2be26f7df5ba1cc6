"""Every setting, read from the environment and `.env`; nothing else in qwenkit reads either.

`.env.example` and the settings page of the docs are made from the docstrings here.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import unquote, urlsplit

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from qwenkit.errors import InvalidSettings


class RuntimeBackend(StrEnum):
    """The runtimes that can be embedded."""

    LLAMA_CPP = "llama.cpp"
    ONNX = "onnx"


class OnnxProvider(StrEnum):
    """Where ONNX Runtime computes."""

    CPU = "cpu"
    CUDA = "cuda"


class OnnxPrecision(StrEnum):
    """Number formats that safetensors are exported to."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"


class OnnxDecoder(StrEnum):
    """Ways to decode an ONNX model."""

    AUTO = "auto"
    SESSION = "session"
    GENAI = "genai"


class RopeScaling(StrEnum):
    """What to do about contexts longer than the model's own."""

    AUTO = "auto"
    NONE = "none"
    YARN = "yarn"


class KvType(StrEnum):
    """Number formats of the KV cache."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class Speculation(StrEnum):
    """Whether tokens are guessed ahead."""

    AUTO = "auto"
    OFF = "off"


class ReloadMode(StrEnum):
    """How a served model makes room for another."""

    AUTO = "auto"
    SIDE_BY_SIDE = "side_by_side"
    DRAIN = "drain"


class LogAnswers(StrEnum):
    """What is kept of answers."""

    FULL = "full"
    METADATA = "metadata"
    OFF = "off"


class ResponsesStore(StrEnum):
    """Where responses are kept."""

    AUTO = "auto"
    DISK = "disk"
    MEMORY = "memory"
    OFF = "off"


class LogFormat(StrEnum):
    """Forms of the server's log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """What of the server's log is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class OtlpProtocol(StrEnum):
    """Ways to send traces."""

    HTTP = "http/protobuf"


class TracesSampler(StrEnum):
    """Ways to choose what is traced, as OpenTelemetry names them."""

    ALWAYS_ON = "always_on"
    ALWAYS_OFF = "always_off"
    RATIO = "traceidratio"
    PARENT_OR_ON = "parentbased_always_on"
    PARENT_OR_OFF = "parentbased_always_off"
    PARENT_OR_RATIO = "parentbased_traceidratio"


class ConvertDtype(StrEnum):
    """Number formats that safetensors are converted to."""

    AUTO = "auto"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Which model to load and how; what `Settings.model_spec` makes of the environment.

    The fields mean what the settings of the same names mean.
    """

    model_path: str | None = None
    runtime_backend: RuntimeBackend = RuntimeBackend.LLAMA_CPP
    qwenkit_home: Path
    convert_dtype: ConvertDtype = ConvertDtype.AUTO
    hub_token: str | None = None
    hub_offline: bool = False
    n_ctx: int = 0
    n_parallel: int = 16
    n_batch: int = 512
    n_threads: int = 0
    n_gpu_layers: int = -1
    rope_scaling: RopeScaling = RopeScaling.AUTO
    kv_type: KvType = KvType.F16
    use_mmap: bool = True
    use_mlock: bool = False
    max_queue: int = 256
    step_latency_ms: int = 250
    cache_ram_mb: int = 1024
    speculation: Speculation = Speculation.AUTO
    draft_model_path: str | None = None
    onnx_provider: OnnxProvider = OnnxProvider.CPU
    onnx_precision: OnnxPrecision = OnnxPrecision.AUTO
    onnx_decoder: OnnxDecoder = OnnxDecoder.AUTO


LANGFUSE_CLOUD = "https://cloud.langfuse.com"
_LANGFUSE_ENVIRONMENT = re.compile(r"(?!langfuse)[a-z0-9_-]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LangfuseSpec:
    """Which Langfuse project to talk to and how; what `Settings.langfuse_spec` makes.

    Args:
        public_key: The project's public key.
        secret_key: The project's secret key.
        base_url: Where Langfuse is, without a slash at the end.
        environment: What traces are labelled with; None is Langfuse's default.
        release: The version that traces are labelled with.
        timeout_s: Seconds that a request to it may take.
        flush_at: Most records that are sent together.
        flush_interval_s: Most seconds that a record waits for others.
    """

    public_key: str
    secret_key: str = field(repr=False)
    base_url: str = LANGFUSE_CLOUD
    environment: str | None = None
    release: str | None = None
    timeout_s: float = 5.0
    flush_at: int = 64
    flush_interval_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySpec:
    """Where traces go and what they say of the server; what `Settings.telemetry_spec` makes.

    Args:
        endpoint: Takes traces by OTLP over HTTP.
        headers: Sent along, keys among them.
        service_name: What the server is called.
        resource: More that is said of it.
        sampler: What is traced, as OpenTelemetry names it.
        ratio: The share that is traced, where the sampler takes one.
    """

    endpoint: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    service_name: str = "qwenkit"
    resource: tuple[tuple[str, str], ...] = ()
    sampler: str = TracesSampler.PARENT_OR_ON.value
    ratio: float = 1.0


class Settings(BaseSettings):
    """qwenkit's settings; a command's flag wins over the environment, which wins over `.env`."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        use_attribute_docstrings=True,
        frozen=True,
    )

    # Model
    model_path: str | None = None
    """The model to serve: a Hub id (`Qwen/Qwen3-8B`, `Qwen/Qwen3-8B-GGUF:Q4_K_M`), a folder of
    safetensors, a `.gguf` file or an ONNX folder. Empty serves the small demo model."""
    runtime_backend: RuntimeBackend = RuntimeBackend.LLAMA_CPP
    """The runtime: `llama.cpp` or `onnx`."""
    served_model_name: str | None = None
    """The name that clients use for the model; made from MODEL_PATH when empty."""
    qwenkit_home: Path = Path("~/.cache/qwenkit")
    """Where converted weights and adapters are kept."""
    convert_dtype: ConvertDtype = ConvertDtype.AUTO
    """Number format that safetensors are converted to: `auto` (as stored), `f32`, `f16`, `bf16`
    or `q8_0`."""
    hf_token: SecretStr | None = None
    """Token for gated models on the Hugging Face Hub."""
    hf_hub_offline: bool = False
    """Use only what has been downloaded before."""

    # Runtime
    n_ctx: int = Field(default=0, ge=0, le=16_777_216)
    """Tokens of context, shared by all requests; each may use all of it. 0 takes the model's own
    context, or less when memory is short."""
    n_parallel: int = Field(default=16, ge=1, le=128)
    """Most sequences that are decoded together."""
    n_batch: int = Field(default=512, ge=32, le=8192)
    """Most tokens computed in one step."""
    n_threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads; 0 takes the physical cores this process may use."""
    n_gpu_layers: int = Field(default=-1, ge=-1)
    """Layers kept on the GPU; -1 is all. Without a GPU it has no effect."""
    rope_scaling: RopeScaling = RopeScaling.AUTO
    """`yarn` or `auto` stretch the context by YaRN when N_CTX is over the model's own; `none`
    refuses such an N_CTX."""
    kv_type: KvType = KvType.F16
    """Number format of the KV cache: `f32`, `f16`, `bf16`, `q8_0` or `q4_0`."""
    use_mmap: bool = True
    """Map the weights into memory instead of reading them."""
    use_mlock: bool = False
    """Keep the weights from being swapped out."""
    max_queue: int = Field(default=256, ge=1, le=100_000)
    """Requests that may wait; one more is answered with 503 and `Retry-After`."""
    step_latency_ms: int = Field(default=250, ge=10, le=60_000)
    """How long a step may take while answers stream: long prompts are computed in chunks that keep
    to it. More is better for throughput, less for smooth streams."""

    cache_ram_mb: int = Field(default=1024, ge=0, le=1_048_576)
    """Memory for cached prompts that are not in use, in MiB, beside the KV cache: there they would
    slow down the answers that run."""
    speculation: Speculation = Speculation.AUTO
    """`auto` guesses the next tokens, from what stands in the prompt and by DRAFT_MODEL_PATH, as
    long as verifying them pays by the time it takes here; answers stay the same. `off` never."""
    draft_model_path: str | None = None
    """A small model of the same family that guesses tokens for the large one, named as in
    MODEL_PATH. Only for RUNTIME_BACKEND=llama.cpp."""
    onnx_provider: OnnxProvider = OnnxProvider.CPU
    """Where RUNTIME_BACKEND=onnx computes: `cpu` or `cuda`."""
    onnx_precision: OnnxPrecision = OnnxPrecision.AUTO
    """Number format that RUNTIME_BACKEND=onnx exports safetensors to: `fp32`, `fp16` (CUDA only),
    `int8` or `int4`. `auto` takes floats for models of up to 512 MiB and `int4` for larger ones."""
    onnx_decoder: OnnxDecoder = OnnxDecoder.AUTO
    """How RUNTIME_BACKEND=onnx decodes: `session` computes all answers together, `genai` one after
    the other with ONNX Runtime GenAI's Generator. `auto` takes `session` on the CPU, for every
    model that qwenkit exports."""

    # Adapters
    lora_paths: Annotated[tuple[str, ...], NoDecode] = ()
    """LoRA adapters to load, separated by commas: PEFT folders, `.gguf` and `.onnx_adapter` files,
    folders of these, or patterns with `*`, `?` and `**`. Each is called as its folder or file."""
    lora_watch: bool = False
    """Load what appears in LORA_PATHS while the server runs, and unload what is removed."""
    lora_dirs: Annotated[tuple[Path, ...], NoDecode] = ()
    """More folders, separated by commas, that an admin's request may load adapters from, beside
    those of LORA_PATHS and QWENKIT_HOME/adapters."""

    # Server
    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs API_KEYS."""
    port: int = Field(default=8000, ge=0, le=65_535)
    """Port to listen on; 0 takes a free one."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys that clients must send as `Authorization: Bearer KEY`, separated by commas."""
    admin_api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Keys that may also change what is served, separated by commas."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Web origins besides the server's own that may call it from a browser, separated by commas."""
    max_request_bytes: int = Field(default=8 * 2**20, ge=1024)
    """Largest request body in bytes; a larger one is answered with 413."""
    client_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that a client may take to send a request's headers, and to send its body (longer for
    a large one that keeps coming), and that it may leave an answer unread; then its connection is
    closed."""
    sse_ping_s: float = Field(default=15.0, gt=0)
    """Seconds of silence after which a stream gets a keep-alive comment."""
    drain_timeout_s: float = Field(default=30.0, ge=0)
    """Seconds that running answers get to finish after SIGTERM."""
    reload_mode: ReloadMode = ReloadMode.AUTO
    """How a running server loads another model: `side_by_side` with the old one, which takes the
    memory of both; `drain` lets answers finish and frees the old one first, while new requests
    wait; `auto` drains only where memory is short."""
    reload_drain_s: float = Field(default=300.0, ge=0)
    """Seconds that running answers get to finish before a model is freed for another; with answers
    that take longer the old one stays."""
    reload_wait_s: float = Field(default=600.0, gt=0)
    """Seconds that a request waits for a model that is being replaced; then it gets 503."""

    # Chat
    openai_api_base_url: str | None = None
    """OpenAI-compatible server that `qwenkit chat` and the agent talk to; empty takes the model in
    process."""
    openai_api_key: SecretStr | None = None
    """Key for that server."""
    thinking_budget: int | None = Field(default=None, ge=0)
    """Most thinking tokens of an answer whose request names no budget."""

    # Responses
    responses_store: ResponsesStore = ResponsesStore.AUTO
    """Where the answers of /v1/responses are kept, so that a client can go on from them: `disk`, in
    LOG_DIR/responses.sqlite; `memory`, till the server ends; `off` keeps none. `auto` takes `disk`,
    or `memory` where LOG_ANSWERS or LOG_REDACT keeps some of what is said from being written when
    the server starts."""
    responses_keep_days: float = Field(default=30.0, gt=0, le=36_500)
    """Days that a response is kept after it was last gone on from."""
    responses_max_mb: int = Field(default=256, ge=1, le=1_048_576)
    """Most MiB of responses that are kept; those that have not been used for longest go first."""

    # Agent
    database_url: SecretStr | None = None
    """Where the agent keeps its threads: `postgresql://user:password@host/database`, or
    `sqlite:///` and a path. Empty keeps them in LOG_DIR/agent.sqlite. One server a database."""
    agent_system_prompt: str = ""
    """What the agent's model is told before everything else."""
    agent_allowed_tools: Annotated[tuple[str, ...], NoDecode] = ()
    """Names of tools that the agent may call without asking, separated by commas; `*` is all."""
    agent_max_steps: int = Field(default=25, ge=1, le=100)
    """Most model calls of one turn of the agent."""

    # MCP
    mcp_config: Path | None = None
    """File that lists MCP servers whose tools the model may use, in the format that other clients
    share (`mcpServers`)."""
    mcp_allowed_networks: Annotated[tuple[str, ...], NoDecode] = ()
    """Private networks, separated by commas, in which MCP servers may be that an admin adds while
    the server runs: `10.0.0.0/8,127.0.0.1`. Servers of MCP_CONFIG may be anywhere."""

    # Files
    log_dir: Path = Path("logs")
    """Where logs are written."""

    # The server's log
    log_format: LogFormat = LogFormat.TEXT
    """How `serve` writes its log to stderr: `text` for people, or `json`, an object a line."""
    log_level: LogLevel = LogLevel.INFO
    """The least that is written: `debug`, `info`, `warning` or `error`. `info` has a line for every
    answer, without what was said; `debug` also for those to load balancers and Prometheus."""

    # Traces
    otel_exporter_otlp_endpoint: str | None = None
    """OpenTelemetry collector that `serve` sends traces to, by OTLP over HTTP:
    `http://127.0.0.1:4318`. Needs the extra `otel`. Empty traces nothing."""
    otel_exporter_otlp_traces_endpoint: str | None = None
    """The same with its path, such as `/v1/traces`; wins over OTEL_EXPORTER_OTLP_ENDPOINT."""
    otel_exporter_otlp_headers: SecretStr | None = None
    """Headers for the collector, `name=value` separated by commas and percent-encoded."""
    otel_exporter_otlp_protocol: OtlpProtocol = OtlpProtocol.HTTP
    """How traces are sent; `http/protobuf` is the one way that there is."""
    otel_service_name: str = "qwenkit"
    """What the server is called in traces."""
    otel_resource_attributes: str = ""
    """More that traces say of the server, `name=value` separated by commas:
    `deployment.environment.name=production`."""
    otel_traces_sampler: TracesSampler = TracesSampler.PARENT_OR_ON
    """What is traced: `always_on`, `always_off`, `traceidratio`; or `parentbased_` and one of
    these, to do as the caller's `traceparent` says where there is one."""
    otel_traces_sampler_arg: float = Field(default=1.0, ge=0, le=1)
    """The share of requests that `traceidratio` traces."""
    otel_sdk_disabled: bool = False
    """`true` traces nothing, whatever the other settings."""

    # Feedback
    log_answers: LogAnswers = LogAnswers.FULL
    """What is kept of answers in LOG_DIR/feedback: `full`; `metadata`, all but what was said; `off`
    keeps nothing, and nothing can be rated."""
    log_redact: Annotated[tuple[str, ...], NoDecode] = ()
    """What is taken out before anything is kept, separated by commas: `email`, `phone`, `card`,
    `ip`, `secret`."""
    log_redact_file: Path | None = None
    """File with more to take out, one regular expression a line."""
    log_keep_days: int | None = Field(default=None, ge=1)
    """Days after which a day's answers and ratings are deleted. Empty keeps them all."""
    log_max_mb: int = Field(default=64, ge=1, le=16_384)
    """Size in MiB at which a day's log goes on in another file."""

    # Langfuse
    langfuse_api_key: SecretStr | None = None
    """Keys of a Langfuse project as `PUBLIC:SECRET`. With them every answer becomes a trace there,
    and every rating a score."""
    langfuse_public_key: SecretStr | None = None
    """The public key alone; LANGFUSE_API_KEY wins."""
    langfuse_secret_key: SecretStr | None = None
    """The secret key alone; LANGFUSE_API_KEY wins."""
    langfuse_base_url: str | None = None
    """Where Langfuse is. Empty is `https://cloud.langfuse.com`."""
    langfuse_host: str | None = None
    """The former name of LANGFUSE_BASE_URL, which wins."""
    langfuse_tracing_enabled: bool = True
    """`false` sends nothing to Langfuse, whatever the keys."""
    langfuse_tracing_environment: str | None = None
    """What traces are labelled with, such as `production`: lower-case letters, digits, `-` and `_`,
    not beginning with `langfuse`."""
    langfuse_release: str | None = None
    """The release that traces are labelled with. Empty is qwenkit's version."""
    langfuse_timeout: float = Field(default=5.0, gt=0, le=600)
    """Seconds that a request to Langfuse may take."""
    langfuse_flush_at: int = Field(default=64, ge=1, le=1000)
    """Most records that are sent to Langfuse together."""
    langfuse_flush_interval: float = Field(default=5.0, gt=0, le=600)
    """Most seconds that a record waits for others before it is sent to Langfuse."""

    # Ray
    ray_replicas: int = Field(default=2, ge=1, le=1024)
    """Replicas of the model that `qwenkit serve --ray` runs, or at least runs."""
    ray_max_replicas: int | None = Field(default=None, ge=1, le=1024)
    """Most replicas when there is much to do. Empty keeps their number as it is."""
    ray_target_requests: float = Field(default=8.0, gt=0)
    """Requests that a replica should have at once, waiting ones included; with more or fewer,
    replicas are added or ended, as far as RAY_MAX_REPLICAS allows."""
    ray_replica_cpus: float = Field(default=1.0, gt=0)
    """Cores of a replica. It computes on as many threads where N_THREADS is not set."""
    ray_replica_gpus: float = Field(default=0.0, ge=0)
    """GPUs of a replica; 0.5 lets two share one."""
    ray_doors: int = Field(default=1, ge=1, le=64)
    """Processes that take requests and find replicas for them."""

    # Label Studio
    label_studio_url: str | None = None
    """Where Label Studio is, in which people judge answers: `http://127.0.0.1:8080`."""
    label_studio_api_key: SecretStr | None = None
    """A token from its page Account & Settings, of either kind."""
    label_studio_webhook_secret: SecretStr | None = None
    """What Label Studio sends along when it reports a judgement to /v1/feedback/label-studio; empty
    receives nothing."""

    _flags: dict[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator(
        "api_keys",
        "admin_api_keys",
        "cors_origins",
        "lora_paths",
        "lora_dirs",
        "agent_allowed_tools",
        "mcp_allowed_networks",
        "log_redact",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("qwenkit_home", "log_dir", "mcp_config", "log_redact_file", mode="after")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser()

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Read the settings; flags that are not None win.

        Raises:
            InvalidSettings: A value is wrong, and the message names the setting; or `.env` can't
                be read.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as exc:
            first = exc.errors()[0]
            name = "_".join(str(part) for part in first["loc"][:1]).upper()
            raise InvalidSettings(
                f"{name} is {first['input']!r}: {first['msg']}",
                hint=f"set {name}, or its flag, to a value that fits",
            ) from exc
        except UnicodeDecodeError as exc:
            raise InvalidSettings(
                "`.env` can't be read: it is not UTF-8", hint="save it as UTF-8"
            ) from exc
        except OSError as exc:
            raise InvalidSettings(
                f"`.env` can't be read: {exc.strerror}", hint="allow this user to read it"
            ) from exc
        settings._flags = given
        return settings

    def reread(self) -> Self:
        """The settings as environment and `.env` have them now; the same flags win.

        Raises:
            InvalidSettings: As `load` does.
        """
        return self.load(**self._flags)

    @staticmethod
    def variables() -> dict[str, str]:
        """Everything that the environment and `.env` name, for files that refer to it.

        Raises:
            InvalidSettings: `.env` can't be read.
        """
        try:
            named = dotenv_values(".env", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidSettings("`.env` can't be read", hint="save it as UTF-8") from exc
        return {name: value for name, value in named.items() if value is not None} | dict(
            os.environ
        )

    def langfuse_spec(self) -> LangfuseSpec | None:
        """Which Langfuse project to talk to; None where there is none, or where it is turned off.

        Raises:
            InvalidSettings: Half of the keys is missing, or something else makes no sense.
        """
        keys = self._langfuse_keys()
        if keys is None or not self.langfuse_tracing_enabled:
            return None
        environment = self.langfuse_tracing_environment
        if environment is not None and not _LANGFUSE_ENVIRONMENT.fullmatch(environment):
            raise InvalidSettings(
                f"LANGFUSE_TRACING_ENVIRONMENT is {environment!r}",
                hint="up to 40 lower-case letters, digits, - and _, not beginning with langfuse",
            )
        if not all(key.isascii() and key.isprintable() for key in keys):
            raise InvalidSettings(
                "the keys for Langfuse are none", hint="copy them from the project's settings"
            )
        base_url = (self.langfuse_base_url or self.langfuse_host or LANGFUSE_CLOUD).rstrip("/")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise InvalidSettings(
                "LANGFUSE_BASE_URL is no address of a server",
                hint="such as https://cloud.langfuse.com, without keys in it",
            )
        return LangfuseSpec(
            public_key=keys[0],
            secret_key=keys[1],
            base_url=base_url,
            environment=environment,
            release=self.langfuse_release,
            timeout_s=self.langfuse_timeout,
            flush_at=self.langfuse_flush_at,
            flush_interval_s=self.langfuse_flush_interval,
        )

    def _langfuse_keys(self) -> tuple[str, str] | None:
        """The public and the secret key. What is wrong with them is said without them."""
        if self.langfuse_api_key is not None:
            public, colon, secret = self.langfuse_api_key.get_secret_value().partition(":")
            if not (public and colon and secret):
                raise InvalidSettings(
                    "LANGFUSE_API_KEY is not two keys", hint="set it to PUBLIC:SECRET"
                )
            return public, secret
        public_key, secret_key = self.langfuse_public_key, self.langfuse_secret_key
        if public_key is None and secret_key is None:
            return None
        if public_key is None or secret_key is None:
            missing = "PUBLIC" if public_key is None else "SECRET"
            raise InvalidSettings(
                f"LANGFUSE_{missing}_KEY is not set, and the other key is",
                hint=f"set LANGFUSE_{missing}_KEY, or both as LANGFUSE_API_KEY=PUBLIC:SECRET",
            )
        return public_key.get_secret_value(), secret_key.get_secret_value()

    def telemetry_spec(self) -> TelemetrySpec | None:
        """Where traces go; None where that is nowhere.

        Raises:
            InvalidSettings: The address is none, or a list has no `name=value` in it.
        """
        named = self.otel_exporter_otlp_traces_endpoint
        base = self.otel_exporter_otlp_endpoint
        if self.otel_sdk_disabled or not (named or base):
            return None
        endpoint = named or f"{(base or '').rstrip('/')}/v1/traces"
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" if named else "OTEL_EXPORTER_OTLP_ENDPOINT"
            raise InvalidSettings(
                f"{name} is no address of a server",
                hint="such as http://127.0.0.1:4318, without keys in it",
            )
        secret = self.otel_exporter_otlp_headers
        headers = "" if secret is None else secret.get_secret_value()
        return TelemetrySpec(
            endpoint=endpoint,
            headers=_pairs(headers, "OTEL_EXPORTER_OTLP_HEADERS"),
            service_name=self.otel_service_name,
            resource=_pairs(self.otel_resource_attributes, "OTEL_RESOURCE_ATTRIBUTES"),
            sampler=self.otel_traces_sampler.value,
            ratio=self.otel_traces_sampler_arg,
        )

    def model_spec(self) -> ModelSpec:
        """What to load, as a plain value for the layers below."""
        return ModelSpec(
            model_path=self.model_path,
            runtime_backend=self.runtime_backend,
            qwenkit_home=self.qwenkit_home,
            convert_dtype=self.convert_dtype,
            hub_token=self.hf_token.get_secret_value() if self.hf_token else None,
            hub_offline=self.hf_hub_offline,
            n_ctx=self.n_ctx,
            n_parallel=self.n_parallel,
            n_batch=self.n_batch,
            n_threads=self.n_threads,
            n_gpu_layers=self.n_gpu_layers,
            rope_scaling=self.rope_scaling,
            kv_type=self.kv_type,
            use_mmap=self.use_mmap,
            use_mlock=self.use_mlock,
            max_queue=self.max_queue,
            step_latency_ms=self.step_latency_ms,
            cache_ram_mb=self.cache_ram_mb,
            speculation=self.speculation,
            draft_model_path=self.draft_model_path,
            onnx_provider=self.onnx_provider,
            onnx_precision=self.onnx_precision,
            onnx_decoder=self.onnx_decoder,
        )


def _pairs(text: str, setting: str) -> tuple[tuple[str, str], ...]:
    """`name=value,name=value`, percent-encoded. What is wrong is said without the values."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise InvalidSettings(
            f"{setting} has a part that is no `name=value`",
            hint="separate them by commas, and write a comma in a value as %2C",
        )
    return tuple((unquote(name.strip()), unquote(value.strip())) for name, _, value in pairs)
