# ruff: noqa: RUF001 - DeepSeek writes its marks with these characters
"""Chat formats of Phi, Command R, DeepSeek and gpt-oss; see `chat_template_families`."""

from __future__ import annotations

from support.chat_template_family import Family

_IM = ("<|im_start|>", "<|im_end|>")
_CONTINUES_IN_THOUGHTS = (
    "the prompt opens a block of thoughts, and what a reply begins with is in it"
)

_PHI = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

PHI_3 = Family(
    name="Phi-3",
    published="model card of microsoft/Phi-3-mini-4k-instruct ('Chat Format')",
    template=r"""
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- '<|system|>\n' + message['content'] + '<|end|>\n' }}
    {%- elif message['role'] == 'user' %}
        {{- '<|user|>\n' + message['content'] + '<|end|>\n' }}
    {%- elif message['role'] == 'assistant' %}
        {{- '<|assistant|>\n' + message['content'] + '<|end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>\n' }}
{%- else %}{{- eos_token }}{%- endif %}
""",
    example="<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello!<|end|>\n"
    "<|user|>\nBye<|end|>\n<|assistant|>\n",
    bos="<s>",
    eos="<|endoftext|>",
    control=_PHI,
)

PHI_4 = Family(
    name="Phi-4",
    published="model card of microsoft/phi-4 ('Input Formats')",
    template=r"""
{%- for message in messages %}
    {%- if message['role'] in ['system', 'user', 'assistant'] %}
        {{- '<|im_start|>' + message['role'] + '<|im_sep|>' }}
        {%- generation %}{{- message['content'] + '<|im_end|>' }}{%- endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant<|im_sep|>' }}{%- endif %}
""",
    example="<|im_start|>system<|im_sep|>Be brief.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>"
    "<|im_start|>assistant<|im_sep|>Hello!<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|>"
    "<|im_start|>assistant<|im_sep|>",
    eos="<|im_end|>",
    control=(*_IM, "<|im_sep|>"),
)

_COHERE = ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>")
_COHERE += ("<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>")

COMMAND_R = Family(
    name="Command R and R+",
    published="Cohere, 'Prompting Command R' (formatting chat history); model cards of"
    " CohereForAI/c4ai-command-r-v01 and c4ai-command-r-plus",
    template=r"""
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set loop_messages = messages[1:] %}
    {%- set system_message = messages[0]['content'] %}
{%- else %}
    {%- set loop_messages = messages %}
    {%- set system_message = false %}
{%- endif %}
{%- if system_message != false %}
    {{- '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + system_message + '<|END_OF_TURN_TOKEN|>' }}
{%- endif %}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/...') }}
    {%- endif %}
    {%- set content = message['content'] %}
    {%- if message['role'] == 'user' %}
        {{- '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}
    {%- elif message['role'] == 'assistant' %}
        {{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + content.strip() }}
        {{- '<|END_OF_TURN_TOKEN|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif %}
""",
    example="<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be brief.<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello!<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye<|END_OF_TURN_TOKEN|>"
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    bos="<BOS_TOKEN>",
    eos="<|END_OF_TURN_TOKEN|>",
    control=_COHERE,
    turns=True,
)

DEEPSEEK_V2 = Family(
    name="DeepSeek V2",
    published="model card of deepseek-ai/DeepSeek-V2-Chat (complete chat template)",
    template=r"""
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- 'User: ' + message['content'] + '\n\n' }}
    {%- elif message['role'] == 'assistant' %}
        {{- 'Assistant: ' + message['content'] + eos_token }}
    {%- elif message['role'] == 'system' %}
        {{- message['content'] + '\n\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}
""",
    example="<｜begin▁of▁sentence｜>Be brief.\n\nUser: Hi\n\nAssistant: Hello!<｜end▁of▁sentence｜>"
    "User: Bye\n\nAssistant:",
    bos="<｜begin▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
)

_DEEPSEEK = ("<｜User｜>", "<｜Assistant｜>", "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_DEEPSEEK += ("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>")
_DEEPSEEK += ("<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>")
_DEEPSEEK += ("<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>")


def _deepseek(end: str, answer: str) -> str:
    """Return the format of V3 and R1; calls have no content, and their arguments are a text."""
    return r"""
{%- if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}
{%- set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {%- set ns.system_prompt = message['content'] %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}{{- ns.system_prompt }}
{%- if tools %}
    {{- '\n\n## Tools\n\n' }}
    {%- for tool in tools %}{{- tool['function'] | tojson(sort_keys=true) + '\n' }}{%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {%- set ns.is_tool = false %}
        {{- '<｜User｜>' + message['content'] }}
    {%- endif %}
    {%- if message['role'] == 'assistant' and message['content'] is none %}
        {%- set ns.is_tool = false %}
        {%- set ns.is_first = false %}
        {%- for tool in message['tool_calls'] %}
            {%- if not ns.is_first %}
                {{- '<｜Assistant｜><｜tool▁calls▁begin｜>' }}
                {%- set ns.is_first = true %}
            {%- else %}
                {{- '\n' }}
            {%- endif %}
            {{- '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' }}
            {{- tool['function']['name'] }}
            {{- '\n```json\n' + tool['function']['arguments'] + '\n```<｜tool▁call▁end｜>' }}
        {%- endfor %}
        {{- '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
    {%- endif %}
    {%- if message['role'] == 'assistant' and message['content'] is not none %}
        {%- if ns.is_tool %}
            {{- '<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}
            {%- set ns.is_tool = false %}
        {%- else %}
            {%- set content = ANSWER %}
            {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
        {%- endif %}
    {%- endif %}
    {%- if message['role'] == 'tool' %}
        {%- set ns.is_output_first = not ns.is_tool %}
        {%- set ns.is_tool = true %}
        {{- '<｜tool▁outputs▁begin｜>' if ns.is_output_first else '\n' }}
        {{- '<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>' }}
    {%- endif %}
{%- endfor %}
{%- if ns.is_tool %}{{- '<｜tool▁outputs▁end｜>' }}{%- endif %}
{%- if add_generation_prompt and not ns.is_tool %}{{- '<｜Assistant｜>END' }}{%- endif %}
""".replace("END", end).replace("ANSWER", answer)


DEEPSEEK_V3 = Family(
    name="DeepSeek V3",
    published="model card of deepseek-ai/DeepSeek-V3 and its technical report; DeepSeek API"
    " documentation, 'Function Calling'",
    template=_deepseek("", "message['content']"),
    example="<｜begin▁of▁sentence｜>Be brief.<｜User｜>Hi<｜Assistant｜>Hello!<｜end▁of▁sentence｜>"
    "<｜User｜>Bye<｜Assistant｜>",
    bos="<｜begin▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
    control=_DEEPSEEK,
    tools=True,
    arguments_as_text=True,
    calls_without_content=True,
)

DEEPSEEK_R1 = Family(
    name="DeepSeek R1",
    published="model card of deepseek-ai/DeepSeek-R1 ('Usage Recommendations': every response"
    " begins with <think>, earlier thoughts are left out)",
    template=_deepseek("<think>\\n", "message['content'].split('</think>')[-1]"),
    example=DEEPSEEK_V3.example + "<think>\n",
    bos="<｜begin▁of▁sentence｜>",
    eos="<｜end▁of▁sentence｜>",
    control=_DEEPSEEK,
    tools=True,
    arguments_as_text=True,
    calls_without_content=True,
    thinking_open="<think>",
    continues=_CONTINUES_IN_THOUGHTS,
)

_HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>")

GPT_OSS = Family(
    name="gpt-oss (harmony)",
    published="OpenAI, 'OpenAI harmony response format' (cookbook): roles, channels, developer"
    " message with functions, calls and their results",
    template=r"""
{%- macro type_of(schema) -%}
    {%- if schema.enum is defined -%}
        {%- for value in schema.enum -%}
            {{- value | tojson }}{%- if not loop.last %} | {% endif -%}
        {%- endfor -%}
    {%- elif schema.type == "array" -%}
        {{- type_of(schema['items']) + '[]' }}
    {%- elif schema.type == "object" and schema.properties is defined -%}
        {{- '{ ' }}
        {%- for name, inner in schema.properties.items() -%}
            {{- name + ('' if name in schema.get('required', []) else '?') + ': ' }}
            {{- type_of(inner) }}{%- if not loop.last %}, {% endif -%}
        {%- endfor -%}
        {{- ' }' }}
    {%- elif schema.type in ["integer", "number"] -%}number
    {%- else -%}{{- schema.type | default('any') }}
    {%- endif -%}
{%- endmacro -%}

{%- macro namespace_of(tools) -%}
    {{- '## functions\n\nnamespace functions {\n\n' }}
    {%- for tool in tools -%}
        {%- set tool = tool.function -%}
        {{- '// ' + tool.description + '\n' + 'type ' + tool.name + ' = ' }}
        {%- if tool.parameters and tool.parameters.properties -%}
            {{- '(_: {\n' }}
            {%- for name, schema in tool.parameters.properties.items() -%}
                {%- if schema.description %}{{- '// ' + schema.description + '\n' }}{%- endif -%}
                {{- name + ('' if name in tool.parameters.get('required', []) else '?') + ': ' }}
                {{- type_of(schema) + ',\n' }}
            {%- endfor -%}
            {{- '}) => any;\n\n' }}
        {%- else -%}
            {{- '() => any;\n\n' }}
        {%- endif -%}
    {%- endfor -%}
    {{- '} // namespace functions' }}
{%- endmacro -%}

{%- if reasoning_effort is not defined %}{%- set reasoning_effort = "medium" %}{%- endif %}
{{- '<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n' }}
{{- 'Knowledge cutoff: 2024-06\nCurrent date: ' }}
{{- (current_date if current_date is defined else strftime_now("%Y-%m-%d")) + '\n\n' }}
{{- 'Reasoning: ' + reasoning_effort + '\n\n' }}
{{- '# Valid channels: analysis, commentary, final. Channel must be included for every message.' }}
{%- if tools %}
    {{- "\nCalls to these tools must go to the commentary channel: 'functions'." }}
{%- endif %}
{{- '<|end|>' }}
{%- if messages[0].role in ["developer", "system"] %}
    {%- set developer = messages[0].content %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set developer = "" %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if developer or tools %}
    {{- '<|start|>developer<|message|>' }}
    {%- if developer %}{{- '# Instructions\n\n' + developer + '\n\n' }}{%- endif %}
    {%- if tools %}{{- '# Tools\n\n' + namespace_of(tools) }}{%- endif %}
    {{- '<|end|>' }}
{%- endif %}
{%- set last_call = namespace(name=none) %}
{%- for message in loop_messages %}
    {%- if message.role == 'assistant' %}
        {%- if message.tool_calls %}
            {%- set call = message.tool_calls[0].function %}
            {%- if message.tool_calls | length > 1 %}
                {{- raise_exception("One call at a time.") }}
            {%- endif %}
            {%- if message.thinking %}
                {{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking }}
                {{- '<|end|>' }}
            {%- elif message.content %}
                {{- '<|start|>assistant<|channel|>analysis<|message|>' + message.content }}
                {{- '<|end|>' }}
            {%- endif %}
            {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary ' }}
            {{- '<|constrain|>json<|message|>' }}{{- call.arguments | tojson }}{{- '<|call|>' }}
            {%- set last_call.name = call.name %}
        {%- elif loop.last and not add_generation_prompt %}
            {%- if message.thinking %}
                {{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking }}
                {{- '<|end|>' }}
            {%- endif %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|return|>' }}
        {%- else %}
            {{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}
            {%- set last_call.name = none %}
        {%- endif %}
    {%- elif message.role == 'tool' %}
        {%- if last_call.name is none %}
            {{- raise_exception("A result has no call before it.") }}
        {%- endif %}
        {{- '<|start|>functions.' + last_call.name + ' to=assistant<|channel|>commentary' }}
        {{- '<|message|>' + message.content | tojson + '<|end|>' }}
    {%- else %}
        {{- '<|start|>user<|message|>' + message.content + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}
""",
    example="<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"
    "Knowledge cutoff: 2024-06\nCurrent date: 2025-06-28\n\nReasoning: medium\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
    "<|end|><|start|>developer<|message|># Instructions\n\nBe brief.\n\n<|end|>"
    "<|start|>user<|message|>Hi<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Hello!<|end|>"
    "<|start|>user<|message|>Bye<|end|><|start|>assistant",
    bos="<|startoftext|>",
    eos="<|return|>",
    control=(*_HARMONY, "<|call|>"),
    tools=True,
    thinking_variable="reasoning_effort",
    variables={"current_date": "2025-06-28"},
    continues="the model chooses its channel first, so what its answer begins with is not behind"
    " the mark of one",
)
