"""Chat formats of models of many makers; see `chat_template_families`."""

from __future__ import annotations

from support.chat_template_family import Family

_IM = ("<|im_start|>", "<|im_end|>")

ZEPHYR = Family(
    name="Zephyr",
    published="model card of HuggingFaceH4/zephyr-7b-beta (prompt of its example)",
    template=r"""
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""".lstrip("\n"),
    example="<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello!</s>\n"
    "<|user|>\nBye</s>\n<|assistant|>\n",
    bos="<s>",
    eos="</s>",
)

VICUNA = Family(
    name="Vicuna 1.1",
    published="FastChat documentation, 'Vicuna weights' (prompt template of v1.1 and later)",
    template=r"""
{%- if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}
    {%- set system = messages[0]['content'] %}
{%- else %}
    {%- set loop_messages = messages %}
    {%- set system = 'A chat between a curious user and an artificial intelligence assistant. '
          ~ "The assistant gives helpful, detailed, and polite answers to the user's questions." %}
{%- endif %}
{{- system }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}{{- ' USER: ' + message['content'].strip() }}
    {%- elif message['role'] == 'assistant' %}
        {{- ' ASSISTANT: ' + message['content'].strip() + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- ' ASSISTANT:' }}{%- endif %}
""",
    example="Be brief. USER: Hi ASSISTANT: Hello!</s> USER: Bye ASSISTANT:",
    bos="<s>",
    eos="</s>",
)

ALPACA = Family(
    name="Alpaca",
    published="Stanford Alpaca, README ('Data Release': the prompts used for fine-tuning)",
    template=r"""
{%- for message in messages %}
    {%- if message['role'] == 'system' and loop.first %}{{- message['content'] + '\n\n' }}
    {%- elif message['role'] == 'user' %}
        {{- '### Instruction:\n' + message['content'] | trim + '\n\n' }}
    {%- elif message['role'] == 'assistant' %}
        {{- '### Response:\n' + message['content'] + eos_token + '\n\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '### Response:\n' }}{%- endif %}
""",
    example="Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello!</s>\n\n"
    "### Instruction:\nBye\n\n### Response:\n",
    bos="<s>",
    eos="</s>",
)

OPENCHAT = Family(
    name="OpenChat 3.5",
    published="model card of openchat/openchat-3.5-0106 ('Conversation templates')",
    template=r"""
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}{{- message['content'] + '<|end_of_turn|>' }}
    {%- else %}
        {{- 'GPT4 Correct ' + message['role'].title() + ': ' + message['content'] }}
        {{- '<|end_of_turn|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'GPT4 Correct Assistant:' }}{%- endif %}
""",
    example="<s>Be brief.<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>"
    "GPT4 Correct Assistant: Hello!<|end_of_turn|>GPT4 Correct User: Bye<|end_of_turn|>"
    "GPT4 Correct Assistant:",
    bos="<s>",
    eos="<|end_of_turn|>",
)

FALCON = Family(
    name="Falcon",
    published="model card of tiiuae/falcon-180B-chat (its prompt format)",
    template=r"""
{%- for message in messages %}
    {%- if not loop.first %}{{- '\n' }}{%- endif %}
    {%- if message['role'] == 'system' %}{{- 'System: ' + message['content'] }}
    {%- elif message['role'] == 'user' %}{{- 'User: ' + message['content'] }}
    {%- elif message['role'] == 'assistant' %}{{- 'Falcon: ' + message['content'] }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '\n' + 'Falcon:' }}{%- endif %}
""",
    example="System: Be brief.\nUser: Hi\nFalcon: Hello!\nUser: Bye\nFalcon:",
    eos="<|endoftext|>",
)

STABLELM_2 = Family(
    name="StableLM 2 Zephyr",
    published="model card of stabilityai/stablelm-2-zephyr-1_6b ('Usage')",
    template=r"""
{%- for message in messages %}
{{- '<|' ~ message['role'] ~ '|>\n' ~ message['content'] ~ eos_token ~ '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}
""",
    example="<|system|>\nBe brief.<|endoftext|>\n<|user|>\nHi<|endoftext|>\n"
    "<|assistant|>\nHello!<|endoftext|>\n<|user|>\nBye<|endoftext|>\n<|assistant|>\n",
    eos="<|endoftext|>",
    control=("<|user|>", "<|assistant|>", "<|system|>"),
)

GRANITE_3 = Family(
    name="Granite 3",
    published="IBM, 'Granite 3 prompt engineering guide' (roles, tools, documents, thinking)",
    template=r"""
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge Cutoff Date: April 2024.\nYou are Granite, by IBM." %}
    {%- if tools and documents %}
        {%- set system_message = system_message + " Use the tools and the documents." %}
    {%- elif tools %}
        {%- set system_message = system_message + " Use the tools." %}
    {%- elif documents %}
        {%- set system_message = system_message + " Use the documents." %}
    {%- elif thinking %}
        {%- set system_message = system_message + "\nRespond to every user query in a detailed "
              + "way: write down your thoughts and reasoning process before responding." %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\n' }}
{%- if tools %}
    {{- '<|start_of_role|>tools<|end_of_role|>' }}{{- tools | tojson(indent=4) }}
    {{- '<|end_of_text|>\n' }}
{%- endif %}
{%- if documents %}
    {{- '<|start_of_role|>documents<|end_of_role|>' }}
    {%- for document in documents %}
        {{- 'Document ' + loop.index | string + '\n' + document['text'] }}
        {%- if not loop.last %}{{- '\n\n' }}{%- endif %}
    {%- endfor %}
    {{- '<|end_of_text|>\n' }}
{%- endif %}
{%- for message in loop_messages %}
    {%- if message['role'] == 'assistant' and message['tool_calls'] %}
        {{- '<|start_of_role|>assistant<|end_of_role|><|tool_call|>[' }}
        {%- for call in message['tool_calls'] %}
            {{- {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}
            {%- if not loop.last %}{{- ', ' }}{%- endif %}
        {%- endfor %}
        {{- ']<|end_of_text|>\n' }}
    {%- elif message['role'] == 'tool' %}
        {{- '<|start_of_role|>tool_response<|end_of_role|>' + message['content'] }}
        {{- '<|end_of_text|>\n' }}
    {%- else %}
        {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] }}
        {{- '<|end_of_text|>\n' }}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}
""",
    example="<|start_of_role|>system<|end_of_role|>Be brief.<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>Hello!<|end_of_text|>\n"
    "<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n"
    "<|start_of_role|>assistant<|end_of_role|>",
    bos="<|end_of_text|>",
    eos="<|end_of_text|>",
    control=("<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"),
    tools=True,
    thinking_variable="thinking",
)

SMOLLM_2 = Family(
    name="SmolLM2",
    published="model card of HuggingFaceTB/SmolLM2-1.7B-Instruct; its default system prompt",
    template=r"""
{%- for message in messages %}
    {%- if loop.first and messages[0]['role'] != 'system' %}
        {{- '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by ' }}
        {{- 'Hugging Face<|im_end|>\n' }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
""",
    example="<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
    "<|im_start|>assistant\n",
    bos="<|im_start|>",
    eos="<|im_end|>",
    control=_IM,
)

SMOLLM_3 = Family(
    name="SmolLM3",
    published="model card of HuggingFaceTB/SmolLM3-3B ('Enabling and Disabling Extended Thinking"
    " Mode': enable_thinking, /think and /no_think)",
    template=r"""
{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}
{%- set reasoning_mode = "/think" if enable_thinking else "/no_think" %}
{%- set custom = "" %}
{%- if messages[0].role == "system" %}
    {%- set custom = messages[0].content %}
    {%- if "/no_think" in custom %}{%- set reasoning_mode = "/no_think" %}
    {%- elif "/think" in custom %}{%- set reasoning_mode = "/think" %}{%- endif %}
    {%- set custom = custom.replace("/no_think", "").replace("/think", "").rstrip() %}
{%- endif %}
{{- "<|im_start|>system\n## Metadata\n\n" }}
{{- "Reasoning Mode: " + reasoning_mode + "\n\n" }}
{{- "## Custom Instructions\n\n" }}
{%- if custom %}{{- custom + "\n\n" }}
{%- elif reasoning_mode == "/think" %}
    {{- "You are a helpful AI assistant named SmolLM. Think first, between <think> and </think>." }}
    {{- "\n\n" }}
{%- else %}
    {{- "You are a helpful AI assistant named SmolLM.\n\n" }}
{%- endif %}
{{- "<|im_end|>\n" }}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else "" %}
    {%- if message.role == "system" %}{%- continue %}{%- endif %}
    {%- if message.role == "user" %}
        {{- "<|im_start|>user\n" + content + "<|im_end|>\n" }}
    {%- elif message.role == "assistant" %}
        {%- generation %}
        {%- if reasoning_mode == "/think" %}
            {{- "<|im_start|>assistant\n" + content.lstrip("\n") + "<|im_end|>\n" }}
        {%- else %}
            {{- "<|im_start|>assistant\n<think>\n\n</think>\n" + content.lstrip("\n") }}
            {{- "<|im_end|>\n" }}
        {%- endif %}
        {%- endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {%- if reasoning_mode == "/think" %}{{- "<|im_start|>assistant\n" }}
    {%- else %}{{- "<|im_start|>assistant\n<think>\n\n</think>\n" }}{%- endif %}
{%- endif %}
""",
    example="<|im_start|>system\n## Metadata\n\nReasoning Mode: /think\n\n"
    "## Custom Instructions\n\nBe brief.\n\n<|im_end|>\n"
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    eos="<|im_end|>",
    control=_IM,
    thinking_variable="enable_thinking",
)

INTERNLM_2 = Family(
    name="InternLM2",
    published="InternLM, 'Chat format' (chat/chat_format.md)",
    template=r"""
{{- bos_token }}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
""",
    example="<s>" + SMOLLM_2.example,
    bos="<s>",
    eos="</s>",
    control=_IM,
)

GLM_4 = Family(
    name="GLM-4",
    published="THUDM, GLM-4 repository (basic_demo and the description of its chat format)",
    template=r"""
{{- '[gMASK]<sop>' }}
{%- if tools %}
    {{- '<|system|>\nYou can use these tools:' }}
    {%- for tool in tools %}
        {{- '\n\n## ' + tool['function']['name'] + '\n\n' }}
        {{- tool['function'] | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{%- for item in messages %}
    {%- if item['role'] == 'tool' %}
        {{- '<|observation|>\n' + item['content'] }}
    {%- elif item['tool_calls'] is defined %}
        {%- if item['content'] %}{{- '<|assistant|>\n' + item['content'] }}{%- endif %}
        {%- for call in item['tool_calls'] %}
            {{- '<|assistant|>' + call['function']['name'] + '\n' }}
            {{- call['function']['arguments'] | tojson }}
        {%- endfor %}
    {%- else %}
        {{- '<|' + item['role'] + '|>\n' + item['content'] }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}
""",
    example="[gMASK]<sop><|system|>\nBe brief.<|user|>\nHi<|assistant|>\nHello!<|user|>\nBye"
    "<|assistant|>\n",
    eos="<|endoftext|>",
    control=("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    tools=True,
)

KIMI_K2 = Family(
    name="Kimi K2",
    published="Moonshot AI, Kimi-K2 repository, 'Tool calling guidance'",
    template=r"""
{%- if tools %}
    {{- '<|im_system|>tool_declare<|im_middle|>' + tools | tojson(separators=(',', ':')) }}
    {{- '<|im_end|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if loop.first and messages[0]['role'] != 'system' %}
        {{- '<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot ' }}
        {{- 'AI.<|im_end|>' }}
    {%- endif %}
    {%- if message['role'] == 'system' %}{{- '<|im_system|>system<|im_middle|>' }}
    {%- elif message['role'] == 'user' %}{{- '<|im_user|>user<|im_middle|>' }}
    {%- elif message['role'] == 'assistant' %}{{- '<|im_assistant|>assistant<|im_middle|>' }}
    {%- elif message['role'] == 'tool' %}{{- '<|im_system|>tool<|im_middle|>' }}{%- endif %}
    {%- if message['role'] == 'assistant' and message.get('tool_calls') %}
        {%- if message['content'] %}{{- message['content'] }}{%- endif %}
        {{- '<|tool_calls_section_begin|>' }}
        {%- for tool_call in message['tool_calls'] %}
            {{- '<|tool_call_begin|>' + tool_call['id'] + '<|tool_call_argument_begin|>' }}
            {%- if tool_call['function']['arguments'] is string %}
                {{- tool_call['function']['arguments'] }}
            {%- else %}
                {{- tool_call['function']['arguments'] | tojson }}
            {%- endif %}
            {{- '<|tool_call_end|>' }}
        {%- endfor %}
        {{- '<|tool_calls_section_end|>' }}
    {%- elif message['role'] == 'tool' %}
        {{- '## Return of ' + message.tool_call_id + '\n' + message['content'] }}
    {%- elif message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for content in message['content'] %}
            {%- if content['type'] == 'image' %}{{- '<|media_start|>image<|media_end|>' }}
            {%- else %}{{- content['text'] }}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_assistant|>assistant<|im_middle|>' }}{%- endif %}
""",
    example="<|im_system|>system<|im_middle|>Be brief.<|im_end|>"
    "<|im_user|>user<|im_middle|>Hi<|im_end|>"
    "<|im_assistant|>assistant<|im_middle|>Hello!<|im_end|>"
    "<|im_user|>user<|im_middle|>Bye<|im_end|><|im_assistant|>assistant<|im_middle|>",
    eos="<|im_end|>",
    control=("<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>"),
    tools=True,
)

EXAONE = Family(
    name="EXAONE 3.5",
    published="model card of LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct and its technical report",
    template=r"""
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '[|system|][|endofturn|]\n' }}
    {%- endif %}
    {{- '[|' + message['role'] + '|]' + message['content'] }}
    {%- if message['role'] == 'user' %}{{- '\n' }}{%- else %}{{- '[|endofturn|]\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '[|assistant|]' }}{%- endif %}
""",
    example="[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello![|endofturn|]\n"
    "[|user|]Bye\n[|assistant|]",
    bos="[BOS]",
    eos="[|endofturn|]",
    control=("[|system|]", "[|user|]", "[|assistant|]"),
)

OLMO_2 = Family(
    name="OLMo 2",
    published="model card of allenai/OLMo-2-1124-7B-Instruct ('Chat template')",
    template=r"""
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}{{- '<|system|>\n' + message['content'] + '\n' }}
    {%- elif message['role'] == 'user' %}{{- '<|user|>\n' + message['content'] + '\n' }}
    {%- elif message['role'] == 'assistant' %}
        {%- if not loop.last %}
            {{- '<|assistant|>\n' + message['content'] + eos_token + '\n' }}
        {%- else %}
            {{- '<|assistant|>\n' + message['content'] + eos_token }}
        {%- endif %}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}{{- '<|assistant|>\n' }}{%- endif %}
{%- endfor %}
""",
    example="<|endoftext|><|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\n"
    "Hello!<|endoftext|>\n<|user|>\nBye\n<|assistant|>\n",
    bos="<|endoftext|>",
    eos="<|endoftext|>",
)

MINICPM = Family(
    name="MiniCPM",
    published="OpenBMB, MiniCPM repository (the prompt of its examples)",
    template=r"""
{%- for message in messages %}
    {%- if message['role'] == 'user' %}{{- '<用户>' + message['content'].strip() + '<AI>' }}
    {%- else %}{{- message['content'].strip() }}{%- endif %}
{%- endfor %}
""",
    example="Be brief.<用户>Hi<AI>Hello!<用户>Bye<AI>",
    bos="<s>",
    eos="</s>",
)

SMOLVLM = Family(
    name="SmolVLM",
    published="Hugging Face, SmolVLM model cards and 'Chatting with image-text models' (contents"
    " are lists of parts)",
    template=r"""
{{- '<|im_start|>' }}
{%- for message in messages %}
    {{- message['role'] | capitalize }}
    {%- if message['content'][0]['type'] == 'image' %}{{- ':' }}{%- else %}{{- ': ' }}{%- endif %}
    {%- for line in message['content'] %}
        {%- if line['type'] == 'text' %}{{- line['text'] }}
        {%- elif line['type'] == 'image' %}{{- '<image>' }}{%- endif %}
    {%- endfor %}
    {{- '<end_of_utterance>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}
""",
    example="<|im_start|>System: Be brief.<end_of_utterance>\nUser: Hi<end_of_utterance>\n"
    "Assistant: Hello!<end_of_utterance>\nUser: Bye<end_of_utterance>\nAssistant:",
    bos="<|im_start|>",
    eos="<end_of_utterance>",
    control=("<image>",),
    typed=True,
)
