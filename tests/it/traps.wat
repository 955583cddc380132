;; A filter that describes itself, takes every configuration, and traps on every batch.
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
  ))
  (alias export $types "description" (type $description))
  (alias export $types "setup" (type $setup))
  (alias export $types "config-error" (type $config-error))
  (alias export $types "batch" (type $batch))
  (alias export $types "verdicts" (type $verdicts))

  (core module $code
    (memory (export "memory") 16)
    (global $free (mut i32) (i32.const 4096))
    ;; A description at 16: the name "traps", the version "1", no columns, the schema "{}".
    (data (i32.const 0) "traps1{}")
    (data (i32.const 16) "\00\00\00\00\05\00\00\00\05\00\00\00\01\00\00\00\00\00\00\00\06\00\00\00\02\00\00\00")
    (func (export "describe") (result i32) i32.const 16)
    ;; At 64 all is zero: done, and no routes.
    (func (export "configure") (param i32 i32 i32 i32) (result i32) i32.const 64)
    (func (export "filter") (param i32) (result i32) unreachable)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      ;; The next multiple of 8; nothing is ever given back.
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
  )
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (alias core export $code "realloc" (core func $realloc))

  (func $describe (result $description)
    (canon lift (core func $code "describe") (memory $memory)))
  (func $configure (param "stage" string) (param "config" string)
    (result (result $setup (error (list $config-error))))
    (canon lift (core func $code "configure") (memory $memory) (realloc $realloc)))
  (func $filter (param "batch" $batch) (result $verdicts)
    (canon lift (core func $code "filter") (memory $memory) (realloc $realloc)))

  (instance $lifecycle (export "describe" (func $describe)) (export "configure" (func $configure)))
  (export "tidegate:plugin/lifecycle@0.1.0" (instance $lifecycle))
  (instance $filtering (export "filter" (func $filter)))
  (export "tidegate:plugin/filtering@0.1.0" (instance $filtering))
)
