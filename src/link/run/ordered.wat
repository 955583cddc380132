;; A filter with state that does with each record what the length of its value says, and tells how many records it was handed:
;;   0  keeps or drops it, which depends on how many it has handled and on the record time
;;   1  rejects it
;;   2  rejects it after it has put state, and does not take that back
;;   3  traps on it, and says so
;;   4  traps on it, and says nothing
;;   5  traps on it, and says that it was the last record of the batch
;;   6  traps on it, and says that it was the first
;;   7  rejects it after it has put state if it is the last of the batch, and handles it as 0 otherwise
;;   8  traps on it, having used up its stack, and says so
;;
;; Memory: texts at 0, the description at 16, the answer of configure at 64, keys of state at 96, what the state answers at 1000,
;; the answer of the work at 1024, verdicts from 1 MiB on, rejects from 2 MiB on, what the host hands over from 8 MiB on.
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
  (import "tidegate:plugin/host@0.1.0" (instance $host
    (export "count" (func (param "name" string) (param "delta" u64)))
    (export "working-on" (func (param "index" u32)))))
  (import "tidegate:plugin/state@0.1.0" (instance $state
    (export "get" (func (param "at" u32) (param "key" (list u8)) (result (option (list u8)))))
    (export "put" (func (param "at" u32) (param "key" (list u8)) (param "value" (list u8)) (param "expires" s64)))))

  (core module $libc
    (memory (export "memory") 256)
    (global $free (export "free") (mut i32) (i32.const 8388608))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $at) (local.get 3)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $count (canon lower (func $host "count") (memory $memory)))
  (core func $working-on (canon lower (func $host "working-on")))
  (core func $get (canon lower (func $state "get") (memory $memory) (realloc $realloc)))
  (core func $put (canon lower (func $state "put") (memory $memory)))
  (core instance $calls (export "count" (func $count)) (export "working-on" (func $working-on))
    (export "get" (func $get)) (export "put" (func $put)))

  (core module $code
    (import "libc" "memory" (memory 256))
    (import "libc" "free" (global $free (mut i32)))
    (import "calls" "count" (func $count (param i32 i32 i64)))
    (import "calls" "working-on" (func $working-on (param i32)))
    (import "calls" "get" (func $get (param i32 i32 i32 i32)))
    (import "calls" "put" (func $put (param i32 i32 i32 i32 i32 i64)))
    (data (i32.const 0) "ordered1{}")
    ;; It needs values, timestamps and offsets.
    (data (i32.const 16) "\00\00\00\00\07\00\00\00\07\00\00\00\01\00\00\00\1a\00\00\00\08\00\00\00\02\00\00\00")
    (data (i32.const 96) "nthanded")
    (func (export "describe") (result i32) i32.const 16)
    (func (export "configure") (param i32 i32 i32 i32) (result i32) i32.const 64)
    (func (export "state-version") (result i32) i32.const 1)
    (func (export "migrate-state") (param i32 i32) (result i32) i32.const 64)
    (func (export "post-work") (param i32) (global.set $free (i32.const 8388608)))

    ;; How many records were handled before this one.
    (func $handled (param $at i32) (result i32)
      (call $get (local.get $at) (i32.const 96) (i32.const 1) (i32.const 1000))
      (if (result i32) (i32.load8_u (i32.const 1000))
        (then (i32.load (i32.load (i32.const 1004))))
        (else (i32.const 0))))
    ;; Count this one, and let "t" be there for 3 ms of record time.
    (func $remember (param $at i32) (param $n i32) (param $timestamp i64)
      (i32.store (i32.const 104) (local.get $n))
      (call $put (local.get $at) (i32.const 96) (i32.const 1) (i32.const 104) (i32.const 4) (i64.const 0x7fffffffffffffff))
      (call $put (local.get $at) (i32.const 97) (i32.const 1) (i32.const 104) (i32.const 4)
        (i64.add (local.get $timestamp) (i64.const 3))))
    (func $is-there (param $at i32) (result i32)
      (call $get (local.get $at) (i32.const 97) (i32.const 1) (i32.const 1000))
      (i32.load8_u (i32.const 1000)))
    (func $deep (param $at i32) (result i32)
      (i32.add (i32.const 1) (call $deep (i32.add (local.get $at) (i32.const 1)))))

    (func (export "work") (param $batch i32) (result i32)
      (local $at i32) (local $records i32) (local $order i32) (local $n i32) (local $rejects i32) (local $timestamp i64)
      (local.set $records (i32.load offset=12 (local.get $batch)))
      (call $count (i32.const 98) (i32.const 6) (i64.extend_i32_u (local.get $records)))
      (loop $each
        (if (i32.lt_u (local.get $at) (local.get $records)) (then
          (local.set $order (i32.load offset=4
            (i32.add (i32.load offset=32 (local.get $batch)) (i32.shl (local.get $at) (i32.const 3)))))
          (local.set $timestamp (i64.load
            (i32.add (i32.load offset=56 (local.get $batch)) (i32.shl (local.get $at) (i32.const 3)))))
          (local.set $n (call $handled (local.get $at)))
          (if (i32.eq (local.get $order) (i32.const 7)) (then
            (local.set $order (i32.shl
              (i32.eq (i32.add (local.get $at) (i32.const 1)) (local.get $records)) (i32.const 1)))))
          (if (i32.eqz (local.get $order)) (then
            (i32.store8 (i32.add (i32.const 1048576) (local.get $at))
              (i32.and (i32.const 1) (i32.xor (local.get $n) (call $is-there (local.get $at)))))))
          (if (i32.ne (local.get $order) (i32.const 1)) (then
            (call $remember (local.get $at) (i32.add (local.get $n) (i32.const 1)) (local.get $timestamp))))
          (if (i32.or (i32.eq (local.get $order) (i32.const 1)) (i32.eq (local.get $order) (i32.const 2))) (then
            (i32.store8 (i32.add (i32.const 1048576) (local.get $at)) (i32.const 0))
            (memory.fill (i32.add (i32.const 2097152) (i32.mul (local.get $rejects) (i32.const 20)))
              (i32.const 0) (i32.const 20))
            (i32.store (i32.add (i32.const 2097152) (i32.mul (local.get $rejects) (i32.const 20))) (local.get $at))
            (local.set $rejects (i32.add (local.get $rejects) (i32.const 1)))))
          (if (i32.eq (local.get $order) (i32.const 3)) (then
            (call $working-on (local.get $at)) (unreachable)))
          (if (i32.eq (local.get $order) (i32.const 4)) (then
            (call $working-on (i32.const -1)) (unreachable)))
          (if (i32.eq (local.get $order) (i32.const 5)) (then
            (call $working-on (i32.sub (local.get $records) (i32.const 1))) (unreachable)))
          (if (i32.eq (local.get $order) (i32.const 6)) (then
            (call $working-on (i32.const 0)) (unreachable)))
          (if (i32.eq (local.get $order) (i32.const 8)) (then
            (call $working-on (local.get $at)) (drop (call $deep (i32.const 0)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $each))))
      (i32.store (i32.const 1024) (i32.const 1048576))
      (i32.store (i32.const 1028) (local.get $records))
      (i32.store (i32.const 1032) (i32.const 2097152))
      (i32.store (i32.const 1036) (local.get $rejects))
      (i32.const 1024))
  )
  (core instance $code (instantiate $code (with "libc" (instance $libc)) (with "calls" (instance $calls))))

  (func $describe (result $description) (canon lift (core func $code "describe") (memory $memory)))
  (func $configure (param "stage" string) (param "config" string) (result (result $setup (error (list $config-error))))
    (canon lift (core func $code "configure") (memory $memory) (realloc $realloc)))
  (instance $lifecycle (export "describe" (func $describe)) (export "configure" (func $configure)))
  (export "tidegate:plugin/lifecycle@0.1.0" (instance $lifecycle))
  (func $state-version (result u32) (canon lift (core func $code "state-version")))
  (func $migrate-state (param "from" u32) (param "to" u32) (result (result (error string)))
    (canon lift (core func $code "migrate-state") (memory $memory)))
  (instance $migrating (export "state-version" (func $state-version)) (export "migrate-state" (func $migrate-state)))
  (export "tidegate:plugin/migrating@0.1.0" (instance $migrating))
  (func $filter (param "batch" $batch) (result $verdicts)
    (canon lift (core func $code "work") (memory $memory) (realloc $realloc)
      (post-return (core func $code "post-work"))))
  (instance $filtering (export "filter" (func $filter)))
  (export "tidegate:plugin/filtering@0.1.0" (instance $filtering))
)
