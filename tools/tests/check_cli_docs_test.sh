#!/usr/bin/env bash
# tools/check_cli_docs finds commands and options that the page lacks, and options that only the page has.
source "$(dirname "$0")/lib.sh"

put build/vl2 <<'PROGRAM'
#!/bin/sh
case "$*" in
  --help) printf 'Usage: vl2\n\nSubcommands:\n  one                 First\n  two                 Second\n\nvl2 COMMAND --help\n' ;;
  'one --help') printf 'Options:\n  -h,--help           Explain\n  -f,--fast N         Like --slow, but fast\n' ;;
  'two --help') printf 'Options:\n  -h,--help           Explain\n  --dry-run           Nothing\n' ;;
esac
PROGRAM
chmod +x "$scratch/build/vl2"
check=("$top/tools/check_cli_docs" "$scratch/build" "$scratch/cli.md")

printf '## vl2 one\n`--fast`\n## vl2 two\n`--dry-run`, `--help`\n' | put cli.md
expect 0 '2 commands, 4 options, 0 violations' "${check[@]}"
printf '## vl2 one\n`--fast` `--dry-run`\n' | put cli.md
expect 1 "no section '## vl2 two'" "${check[@]}"
printf '## vl2 one\n## vl2 two\n`--dry-run`\n' | put cli.md
expect 1 'vl2 one --fast is missing' "${check[@]}"
printf '## vl2 one\n`--faster`\n## vl2 two\n`--dry-run`\n' | put cli.md
expect 1 '--faster is no option' "${check[@]}"

put build/vl2 <<'PROGRAM'
#!/bin/sh
case "$*" in
  --help) printf 'Subcommands:\n  one                 First\n\nvl2 COMMAND --help\n' ;;
  'one --help') printf 'Options:\n  -h,--help           Explain\n\nSubcommands:\n  deep                Below\n' ;;
  'one deep --help') printf 'Options:\n  -h,--help           Explain\n  --far               Away\n' ;;
esac
PROGRAM
printf '## vl2 one deep\n`--far`\n' | put cli.md
expect 0 '1 commands, 3 options, 0 violations' "${check[@]}"
printf '## vl2 one\n`--help`\n' | put cli.md
expect 1 "no section '## vl2 one deep'" "${check[@]}"
expect 1 'vl2 one deep --far is missing' "${check[@]}"
expect 77 'build it first' "$top/tools/check_cli_docs" "$scratch"
finish
