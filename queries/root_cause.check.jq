# Each place that is named must be in the diff: the file as one of its files, the function by name.
.row.diff as $diff
| ($diff | split("\n") | map(select(startswith("+++ b/") or startswith("--- a/")) | .[6:])) as $files
| .answer.root_causes[]
| (.file as $file | select($files | index($file) | not) | "`\($file)` is no file of the diff"),
  (.function as $function | select($function == "" or ($diff | contains($function) | not))
    | "`\($function)` does not occur in the diff")
