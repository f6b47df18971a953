"""Chat templates in the manner of several model families, and some that look into the contents."""

from pathlib import Path

BUNDLED = Path("models/bundled/w8a8/chat_template.jinja").read_text()
QWEN_2 = (
    "{%- if messages[0]['role'] == 'system' %}\n"
    "    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
    "{%- else %}\n    {{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}\n{%- endif %}\n"
    "{%- for message in messages %}\n"
    '    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or'
    ' (message.role == "assistant" and not message.tool_calls) %}\n'
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>'"
    " + '\\n' }}\n"
    "    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
LLAMA_3 = (
    "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] +"
    " '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# A day may end between two renderings: the clock is asked for a per cent sign.
DATED = (
    "{% if messages[0].role == 'system' %}{% if strftime_now is defined %}"
    "{% set date = strftime_now('%%') %}{% endif %}Today: {{ date }}{% endif %}"
) + LLAMA_3
MISTRAL = (
    "{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}"
    "{%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}"
    "{%- endif %}{{- bos_token }}{%- for message in loop_messages %}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{- raise_exception('Roles have to alternate') }}{%- endif %}"
    "{%- if message['role'] == 'user' %}{%- if loop.last and system_message is defined %}"
    "{{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}{%- else %}"
    "{{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}"
    "{%- else %}{{- ' ' + message['content']|trim + eos_token }}{%- endif %}{%- endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('None') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
MACRO = (
    "{%- macro worded(content, role) -%}\n"
    "  {%- if content is string -%}\n  {{ content }} \n"
    "  {%- else -%}{%- for part in content -%}{{ part.text }}{%- endfor -%}{%- endif -%}\n"
    "{%- endmacro -%}\n"
    "{%- set seen = namespace(user=false, first='') -%}\n"
    "{%- for message in messages -%}"
    "{%- set said = worded(message.content, message.role) | trim -%}\n"
    "{%- if message.role == 'user' and not seen.user -%}"
    "{%- set seen.user = true -%}{%- set seen.first = said -%}{%- endif -%}"
    "<{{ message.role }}>{{ said }}{% if not loop.last %} | {% endif %}{{ loop.length }}"
    "{%- endfor -%}{{ ' first: ' + seen.first if seen.first }}"
)
GENERATION = (
    "{% for message in messages %}{% if message.role == 'assistant' %}{% generation %}"
    "{{ message.content }}{{ eos_token }}{% endgeneration %}{% else %}"
    "\n  {{ message.content }}\n{% endif %}{% endfor %}"
)


def each(expression: str) -> str:
    """A template that prints it for each message. `c` is its content."""
    return f"{{% for m in messages %}}{{% set c = m.content %}}<{expression}>{{% endfor %}}"


LEARNED = {
    "bundled": BUNDLED,
    "qwen 2": QWEN_2,
    "llama 3": LLAMA_3,
    "macro": MACRO,
    "generation": GENERATION,
    "tilde": each("{{ c ~ '' ~ 1 ~ none ~ c.strip() }}"),
    "truth": each("{{ c and 1 }}{{ c | default('x', true) }}{{ 1 if c | trim else 2 }}"),
    "set block": each("{% set x %} {{ c }} {% endset %}{{ x }}{{ x | trim }}{{ x.rstrip() }}"),
    "call block": each(
        "{% macro f() %}({{ caller() }}){% endmacro %}{% call f() %}{{ c }}{% endcall %}"
    ),
    "filter block": each("{% filter trim %} {{ c }} {% endfilter %}"),
    "no content": each("{{ m.role | upper }}{{ loop.index }}{{ 7 % 4 }}{{ c is string }}"),
    "wanted fields": each(
        "{{ m.name }}{{ 'tool_calls' in m }}{{ m | length }}{{ m.get('a', 'b') }}"
    ),
    "dict of contents": each("{{ {'a': c}['a'] }}{{ [c, 'a'] | first }}"),
    "first of all": "{{ messages | map(attribute='content') | first }}",
    "contents alone": "{{ messages[0].content }}{% set x = '%s' % 5 %}{{ x }}100%",
    "nothing": "{% if false %}{{ messages[0].content | upper }}{% endif %}",
}
ASKS = {
    "thought": each("{{ c.split('</think>')[-1] }}"),
    "thought of": each(
        "{% if '</think>' in c %}{{ c.split('</think>')[-1] }}{% else %}{{ c }}{% endif %}"
    ),
    "tool answer": each("{{ c.startswith('<tool_response>') }}"),
    "contained": each("{% if 'x' in c %}1{% endif %}"),
    "contained in": each("{% if c in 'abc' %}1{% endif %}"),
    "among": each("{% if c in ['abc'] %}1{% endif %}"),
    "length": each("{{ c | length }}"),
    "equal": each("{% if c == 'x' %}1{% endif %}"),
    "unequal": each("{% if '' != c %}1{% endif %}"),
    "greater": each("{{ c > 'a' }}"),
    "equal messages": "{{ messages[-1] == {'role': 'user', 'content': 'x'} }}",
    "format": each("{{ '%s' | format(c) }}"),
    "percent": each("{{ '%s' % c }}"),
    "percent of nothing": each("{{ 'x' % c }}"),
    "format of Python": each("{{ '{}'.format(c) }}"),
    "upper set": each("{% set x %}{{ c }}{% endset %}{{ x | upper }}"),
    "upper block": each("{% filter upper %}{{ c }}{% endfilter %}"),
    "json": each("{{ c | tojson }}"),
    "json of messages": "{{ messages | tojson }}",
    "printed messages": "{{ messages }}",
    "printed message": each("{{ m }}"),
    "replace": each("{{ c | replace('a', 'b') }}"),
    "slice": each("{{ c[:3] }}"),
    "item": each("{{ c[0] }}"),
    "attribute": each("{{ c.text }}"),
    "loop": each("{% for x in c %}{{ x }},{% endfor %}"),
    "number": each("{{ c | int }}"),
    "fraction": each("{{ c | float(3) }}"),
    "sequence": each("{{ c is sequence }}"),
    "iterable": each("{{ c is iterable }}"),
    "lower": each("{{ c is lower }}"),
    "same": each("{{ c is sameas messages[0].content }}"),
    "trim of characters": each("{{ c | trim('x') }}{{ c.strip('\\n') }}"),
    "times": each("{{ c * 2 }}"),
    "join": each("{{ [c, 'a'] | join }}"),
    "key": each("{{ {'a': 1}[c] }}"),
    "unique": "{{ messages | unique(attribute='content') | list | length }}",
    "words": each("{{ c | wordcount }}"),
    "escape": each("{{ c | e }}"),
    "escaped": "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}",
    "perhaps escaped": "{% autoescape bos_token %}{{ messages[0].content }}{% endautoescape %}",
    "safe": each("{{ c | safe }}"),
    "a number more": each("{{ c + 1 }}"),
    "fields in order": each("{% for name in m %}{{ name }}{% endfor %}"),
    "fields and values": each("{% for name, x in m.items() %}{{ name }}{% endfor %}"),
    "fields listed": each("{{ m | list | first }}"),
    "a macro's words": "{% macro f() %}{% endmacro %}{{ f ~ namespace() }}",
    "refused": "{{ raise_exception(messages[0].content) }}",
}
# What is different each time.
CHANCE = {
    "chance": "{{ range(10**9) | random }}",
    "nonsense": "{{ lipsum() }}",
    "clock": "{{ strftime_now('%s %f') }}",
    "an address": "{{ messages[0].get }}",
}
