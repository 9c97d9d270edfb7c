//! The words that generated items are made of.

pub const PARTS: [&str; 16] = [
    "kv cache",
    "scheduler",
    "flash attention",
    "tokenizer",
    "speculative decoding",
    "rope scaling",
    "sampler",
    "weight loader",
    "cuda graph",
    "tensor parallel",
    "prefix cache",
    "lora adapter",
    "chat template",
    "metal backend",
    "quantizer",
    "grammar parser",
];
pub const SYMPTOMS: [&str; 14] = [
    "segmentation fault",
    "garbled output",
    "out of memory",
    "NaN logits",
    "hang",
    "memory leak",
    "wrong result",
    "assertion failure",
    "slow first token",
    "build failure",
    "deadlock",
    "illegal memory access",
    "truncated answer",
    "输出乱码",
];
pub const CONDITIONS: [&str; 14] = [
    "with batch size above 1",
    "on long prompts",
    "after a context shift",
    "with two GPUs",
    "when streaming",
    "with bf16 weights",
    "under load",
    "on Windows",
    "with an empty prompt",
    "when the client disconnects",
    "after warm-up",
    "with q4 weights",
    "on ARM — NEON only",
    "with 日本語 input",
];
pub const CHANGES: [&str; 9] = [
    "guard against empty batches",
    "free the buffer on error",
    "use the right stride",
    "check the bounds before copying",
    "avoid a second synchronisation",
    "add a missing barrier",
    "refactor the dispatch table",
    "support grouped heads",
    "update the documentation",
];
pub const MODELS: [&str; 8] = [
    "tiny-7b-q4",
    "tiny-13b",
    "mixture-8x7b",
    "coder-33b-awq",
    "vision-2b",
    "base-70b-gptq",
    "chat-1.5b",
    "embed-small",
];
pub const DEVICES: [&str; 8] = [
    "one 24 GB GPU",
    "8 x 80 GB GPUs",
    "an M2 laptop",
    "a CPU with AVX2",
    "an MI250",
    "a T4",
    "a Raspberry Pi 5",
    "WSL2",
];
pub const REMARKS: [&str; 7] = [
    "It worked in the release before.",
    "Happens about once in 50 runs 🤔.",
    "Always.",
    "Only with `--no-mmap`.",
    "Setting `batch = 1` hides it.",
    "Même chose avec l'image Docker.",
    "The log says nothing else.",
];
pub const REPLIES: [&str; 10] = [
    "I can reproduce this on main.",
    "Could you add the full log?",
    "This looks like a duplicate.",
    "Bisected to the change of the allocator.",
    "Thanks, fixed by the linked pull request.",
    "Any news?",
    "LGTM",
    "Please rebase.",
    "Same here 👍",
    "Can we have a test for this?",
];
pub const LEVELS: [&str; 3] = ["ERROR", "FATAL", "warning"];
pub const FUNCTIONS: [&str; 12] = [
    "kv_cache_shift",
    "decode_batch",
    "build_graph",
    "sample_token",
    "load_tensors",
    "schedule_step",
    "apply_rope",
    "free_blocks",
    "encode_prompt",
    "launch_kernel",
    "merge_lora",
    "parse_grammar",
];
pub const VARIABLES: [&str; 6] = ["n_past", "n_tokens", "stride", "head_dim", "block_id", "offset"];
pub const FILES: [&str; 12] = [
    "src/cache.cpp",
    "src/scheduler.cpp",
    "src/kernels/attention.cu",
    "src/sampler.cpp",
    "src/tokenizer.cpp",
    "engine/runner.py",
    "engine/config.py",
    "src/graph.cpp",
    "src/loader.cpp",
    "tests/test_decode.py",
    "docs/usage.md",
    "CMakeLists.txt",
];
pub const PEOPLE: [&str; 14] = [
    "ada-k", "bjorn77", "chen-li", "dmitri-p", "elena-r", "femi", "gwen-dev", "hiro", "ines-m",
    "jonas-w", "kavya", "liam-o", "mei", "noor-a",
];
pub const BOTS: [&str; 3] = ["dependabot[bot]", "github-actions[bot]", "stale[bot]"];
pub const MAINTAINERS: [&str; 1] = ["maintainer-mo"];
pub const ASSOCIATIONS: [&str; 5] = ["NONE", "NONE", "CONTRIBUTOR", "MEMBER", "COLLABORATOR"];
pub const ISSUE_LABELS: [&str; 9] = [
    "bug",
    "bug",
    "bug-unconfirmed",
    "enhancement",
    "question",
    "stale",
    "good first issue",
    "documentation",
    "performance",
];
pub const PULL_LABELS: [&str; 5] = ["bugfix", "refactor", "ci", "documentation", "kernels"];
