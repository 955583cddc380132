;; A filter that keeps every record, after what the bench puts in the place of the word in double angle brackets.
;;
;; Memory, 16 pages: texts at 0, the description at 16, the answer of configure at 64 (all zero: done, no routes), the answer of the
;; work at 1024, ten thousand bytes 1 at 2048, what the host hands over from 131072 on.
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
  (import "tidegate:plugin/host@0.1.0" (instance $host
    (type $level-def (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level-def)))
    (export "log" (func (param "level" $level) (param "message" string)))))

  ;; Memory and realloc stand apart, so that the host's functions can be lowered before the plugin's code is there.
  (core module $libc
    (memory (export "memory") 16)
    (global $free (mut i32) (i32.const 131072))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      ;; The next multiple of 8. What is behind it is the last batch's, which is done with: each batch begins anew.
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
    (func (export "reset") (global.set $free (i32.const 131072)))
  )
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $log (canon lower (func $host "log") (memory $memory)))
  (core instance $host-code (export "log" (func $log)))

  (core module $code
    (import "libc" "memory" (memory 16))
    (import "libc" "reset" (func $reset))
    (import "host" "log" (func $log (param i32 i32 i32)))
    (data (i32.const 0) "neighbour{}")
    (data (i32.const 16) "\00\00\00\00\09\00\00\00\00\00\00\00\09\00\00\00\00\00\00\00\09\00\00\00\02\00\00\00")
    (func $burn (param $rounds i32)
      (loop $again
        (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
        (br_if $again (local.get $rounds))))
    (func $flood (local $lines i32)
      (loop $again
        (call $log (i32.const 0) (i32.const 0) (i32.const 9))
        (local.set $lines (i32.add (local.get $lines) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $lines) (i32.const 20000)))))
    (func $grow (loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))))
    (func (export "describe") (result i32) (i32.const 16))
    (func (export "configure") (param i32 i32 i32 i32) (result i32) (i32.const 64))
    (func (export "work") (param i32) (result i32)
      <<body>>
      (memory.fill (i32.const 2048) (i32.const 1) (i32.const 10000))
      (i32.store (i32.const 1024) (i32.const 2048))
      (i32.store (i32.const 1028) (i32.load offset=12 (local.get 0)))
      (i32.const 1024))
    (func (export "post-work") (param i32) (call $reset))
  )
  (core instance $code (instantiate $code (with "libc" (instance $libc)) (with "host" (instance $host-code))))

  (func $describe (result $description)
    (canon lift (core func $code "describe") (memory $memory)))
  (func $configure (param "stage" string) (param "config" string)
    (result (result $setup (error (list $config-error))))
    (canon lift (core func $code "configure") (memory $memory) (realloc $realloc)))
  (instance $lifecycle (export "describe" (func $describe)) (export "configure" (func $configure)))
  (export "tidegate:plugin/lifecycle@0.1.0" (instance $lifecycle))
  (func $filter (param "batch" $batch) (result $verdicts)
    (canon lift (core func $code "work") (memory $memory) (realloc $realloc) (post-return (core func $code "post-work"))))
  (instance $filtering (export "filter" (func $filter)))
  (export "tidegate:plugin/filtering@0.1.0" (instance $filtering))
)
