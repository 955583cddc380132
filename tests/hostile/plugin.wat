;; A plugin with holes: a word in double angle brackets is replaced by what `template.rs` puts there.
;;
;; Memory, 16 pages: texts at 0, the description at 16, the answer of configure at 64 (all zero: done, no routes),
;; the answer of the work at 1024, a thousand bytes 1 at 2048, 64 KiB for lists from 65536 on, what the host hands over from 131072 on.
(component
  (import "tidegate:plugin/types@0.1.0" (instance $types
    (type $columns-def (flags "key" "value" "headers" "timestamp" "offset"))
    (export "columns" (type $columns (eq $columns-def)))
    (type $description-def (record
      (field "name" string) (field "version" string) (field "needs" $columns) (field "config-schema" string)))
    (export "description" (type $description (eq $description-def)))
    (type $setup-def (record (field "routes" (list string))))
    (export "setup" (type $setup (eq $setup-def)))
    (type $config-error-def (record (field "path" string) (field "message" string)))
    (export "config-error" (type $config-error (eq $config-error-def)))
    (type $batch-def (record
      (field "topic" string) (field "partition" u32) (field "count" u32) (field "arena" (list u8))
      (field "keys" (list u32)) (field "values" (list u32)) (field "header-ends" (list u32))
      (field "headers" (list u32)) (field "timestamps" (list s64)) (field "offsets" (list s64))
      (field "first-ordinal" u32)))
    (export "batch" (type $batch (eq $batch-def)))
    (type $reject-def (record (field "index" u32) (field "code" string) (field "message" string)))
    (export "reject" (type $reject (eq $reject-def)))
    (type $verdicts-def (record (field "keep" (list u8)) (field "rejects" (list $reject))))
    (export "verdicts" (type $verdicts (eq $verdicts-def)))
    (type $outputs-def (record
      (field "sources" (list u32)) (field "arena" (list u8)) (field "keys" (list u32)) (field "values" (list u32))
      (field "header-counts" (list u32)) (field "headers" (list u32)) (field "timestamps" (list s64))
      (field "routes" (list u32)) (field "partition-keys" (list u32)) (field "rejects" (list $reject))))
    (export "outputs" (type $outputs (eq $outputs-def)))
  ))
  (alias export $types "description" (type $description))
  (alias export $types "setup" (type $setup))
  (alias export $types "config-error" (type $config-error))
  (alias export $types "batch" (type $batch))
  (alias export $types "verdicts" (type $verdicts))
  (alias export $types "outputs" (type $outputs))
  <<imports>>

  ;; Memory and realloc stand apart, so that the host's functions can be lowered before the plugin's code is there.
  (core module $libc
    (memory (export "memory") 16)
    (global $free (mut i32) (i32.const 131072))
    ;; Set by configure: before that, realloc behaves.
    (global $armed (export "armed") (mut i32) (i32.const 0))
    (func $honest (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      ;; The next multiple of 8; nothing is ever given back.
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) <<realloc>>)
  )
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  <<lowered>>

  (core module $code
    (import "libc" "memory" (memory 16))
    (import "libc" "armed" (global $armed (mut i32)))
    <<core-imports>>
    (global $n (mut i32) (i32.const 0))
    (data (i32.const 0) "hostile1{}")
    (data (i32.const 16) "\00\00\00\00\07\00\00\00\07\00\00\00\01\00\00\00\02\00\00\00\08\00\00\00\02\00\00\00")
    (func $fill (memory.fill (i32.const 2048) (i32.const 1) (i32.const 1000)))
    (func (export "describe") (result i32) (call $fill) <<describe>>)
    (func (export "configure") (param i32 i32 i32 i32) (result i32) (call $fill) (global.set $armed (i32.const 1)) <<configure>>)
    (func (export "work") (param i32) (result i32) <<work>>)
    (func (export "state-version") (result i32) <<state-version>>)
    (func (export "migrate-state") (param i32 i32) (result i32) <<migrate-state>>)
    (func (export "post-describe") (param i32) <<post-describe>>)
    (func (export "post-configure") (param i32) <<post-configure>>)
    (func (export "post-work") (param i32) <<post-work>>)
    <<core>>
  )
  (core instance $code (instantiate $code (with "libc" (instance $libc)) <<arguments>>))
  <<bombs>>

  (func $describe (result $description)
    (canon lift (core func $code "describe") (memory $memory) (post-return (core func $code "post-describe"))))
  (func $configure (param "stage" string) (param "config" string)
    (result (result $setup (error (list $config-error))))
    (canon lift (core func $code "configure") (memory $memory) (realloc $realloc)
      (post-return (core func $code "post-configure"))))
  (instance $lifecycle (export "describe" (func $describe)) (export "configure" (func $configure)))
  (export "tidegate:plugin/lifecycle@0.1.0" (instance $lifecycle))
  <<exports>>
)
