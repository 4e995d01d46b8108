;; What takes the time in gpt.js, four numbers at once: products with a matrix, and attention. Same functions as in
;; math.js. `python tests/assemble.py` writes math.wasm from this file.
;;
;; All numbers are 32-bit floats, and all parameters addresses in bytes, unless they say otherwise. The page reserves bytes
;; 0 to 127, which stay zero, and bytes 128 to 255, which $into uses for itself.
(module
  (memory (import "page" "memory") 1)

  ;; out[0..32) = start[0..32) + the sum over k < n of v[k] * m[k][0..32). The columns of m are in four parts of 8, `gap`
  ;; bytes apart; the rows of a part are `step` bytes apart. Processors fetch four streams from memory faster than one.
  (func $mix (param $out i32) (param $start i32) (param $v_at i32) (param $n i32)
    (param $m i32) (param $gap i32) (param $step i32)
    (local $end i32) (local $m1 i32) (local $m2 i32) (local $m3 i32) (local $v v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $e v128) (local $f v128) (local $g v128) (local $h v128)
    (local.set $a (v128.load offset=0 (local.get $start)))
    (local.set $b (v128.load offset=16 (local.get $start)))
    (local.set $c (v128.load offset=32 (local.get $start)))
    (local.set $d (v128.load offset=48 (local.get $start)))
    (local.set $e (v128.load offset=64 (local.get $start)))
    (local.set $f (v128.load offset=80 (local.get $start)))
    (local.set $g (v128.load offset=96 (local.get $start)))
    (local.set $h (v128.load offset=112 (local.get $start)))
    (local.set $end (i32.add (local.get $v_at) (i32.shl (local.get $n) (i32.const 2))))
    (local.set $m1 (i32.add (local.get $m) (local.get $gap)))
    (local.set $m2 (i32.add (local.get $m1) (local.get $gap)))
    (local.set $m3 (i32.add (local.get $m2) (local.get $gap)))
    (loop $next
      (local.set $v (v128.load32_splat (local.get $v_at)))
      (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $v) (v128.load offset=0 (local.get $m)))))
      (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $m)))))
      (local.set $m (i32.add (local.get $m) (local.get $step)))
      (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $v) (v128.load offset=0 (local.get $m1)))))
      (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $m1)))))
      (local.set $m1 (i32.add (local.get $m1) (local.get $step)))
      (local.set $e (f32x4.add (local.get $e) (f32x4.mul (local.get $v) (v128.load offset=0 (local.get $m2)))))
      (local.set $f (f32x4.add (local.get $f) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $m2)))))
      (local.set $m2 (i32.add (local.get $m2) (local.get $step)))
      (local.set $g (f32x4.add (local.get $g) (f32x4.mul (local.get $v) (v128.load offset=0 (local.get $m3)))))
      (local.set $h (f32x4.add (local.get $h) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $m3)))))
      (local.set $m3 (i32.add (local.get $m3) (local.get $step)))
      (local.set $v_at (i32.add (local.get $v_at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $v_at) (local.get $end))))
    (v128.store offset=0 (local.get $out) (local.get $a))
    (v128.store offset=16 (local.get $out) (local.get $b))
    (v128.store offset=32 (local.get $out) (local.get $c))
    (v128.store offset=48 (local.get $out) (local.get $d))
    (v128.store offset=64 (local.get $out) (local.get $e))
    (v128.store offset=80 (local.get $out) (local.get $f))
    (v128.store offset=96 (local.get $out) (local.get $g))
    (v128.store offset=112 (local.get $out) (local.get $h)))

  ;; $mix, of which only `width` numbers are wanted: out[0..min(32, width)).
  (func $into (param $out i32) (param $width i32) (param $start i32) (param $v i32) (param $n i32)
    (param $m i32) (param $gap i32) (param $step i32)
    (call $mix (select (local.get $out) (i32.const 128) (i32.ge_s (local.get $width) (i32.const 32)))
      (local.get $start) (local.get $v) (local.get $n) (local.get $m) (local.get $gap) (local.get $step))
    (if (i32.lt_s (local.get $width) (i32.const 32))
      (then (memory.copy (local.get $out) (i32.const 128) (i32.shl (local.get $width) (i32.const 2))))))

  ;; out[0..4)[0..8) = start[0..8) + the sum over k < n of v[0..4)[k] * m[k][0..8), with the rows of m one after the other.
  ;; Each number of m is loaded once for all four v.
  (func $mix_four (param $out i32) (param $out_step i32) (param $start i32) (param $v_at i32) (param $n i32) (param $m i32)
    (local $end i32) (local $w_at i32) (local $x_at i32) (local $y_at i32)
    (local $v v128) (local $w v128) (local $x v128) (local $y v128) (local $row v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $e v128) (local $f v128) (local $g v128) (local $h v128)
    (local.set $a (v128.load offset=0 (local.get $start)))
    (local.set $b (v128.load offset=16 (local.get $start)))
    (local.set $c (local.get $a))
    (local.set $d (local.get $b))
    (local.set $e (local.get $a))
    (local.set $f (local.get $b))
    (local.set $g (local.get $a))
    (local.set $h (local.get $b))
    (local.set $end (i32.shl (local.get $n) (i32.const 2)))
    (local.set $w_at (i32.add (local.get $v_at) (local.get $end)))
    (local.set $x_at (i32.add (local.get $w_at) (local.get $end)))
    (local.set $y_at (i32.add (local.get $x_at) (local.get $end)))
    (local.set $end (local.get $w_at))
    (loop $next
      (local.set $v (v128.load32_splat (local.get $v_at)))
      (local.set $w (v128.load32_splat (local.get $w_at)))
      (local.set $x (v128.load32_splat (local.get $x_at)))
      (local.set $y (v128.load32_splat (local.get $y_at)))
      (local.set $row (v128.load offset=0 (local.get $m)))
      (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $v) (local.get $row))))
      (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $w) (local.get $row))))
      (local.set $e (f32x4.add (local.get $e) (f32x4.mul (local.get $x) (local.get $row))))
      (local.set $g (f32x4.add (local.get $g) (f32x4.mul (local.get $y) (local.get $row))))
      (local.set $row (v128.load offset=16 (local.get $m)))
      (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $v) (local.get $row))))
      (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $w) (local.get $row))))
      (local.set $f (f32x4.add (local.get $f) (f32x4.mul (local.get $x) (local.get $row))))
      (local.set $h (f32x4.add (local.get $h) (f32x4.mul (local.get $y) (local.get $row))))
      (local.set $m (i32.add (local.get $m) (i32.const 32)))
      (local.set $v_at (i32.add (local.get $v_at) (i32.const 4)))
      (local.set $w_at (i32.add (local.get $w_at) (i32.const 4)))
      (local.set $x_at (i32.add (local.get $x_at) (i32.const 4)))
      (local.set $y_at (i32.add (local.get $y_at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $v_at) (local.get $end))))
    (v128.store offset=0 (local.get $out) (local.get $a))
    (v128.store offset=16 (local.get $out) (local.get $b))
    (local.set $out (i32.add (local.get $out) (local.get $out_step)))
    (v128.store offset=0 (local.get $out) (local.get $c))
    (v128.store offset=16 (local.get $out) (local.get $d))
    (local.set $out (i32.add (local.get $out) (local.get $out_step)))
    (v128.store offset=0 (local.get $out) (local.get $e))
    (v128.store offset=16 (local.get $out) (local.get $f))
    (local.set $out (i32.add (local.get $out) (local.get $out_step)))
    (v128.store offset=0 (local.get $out) (local.get $g))
    (v128.store offset=16 (local.get $out) (local.get $h)))

  ;; out (T, rows) = x (T, n) @ weight.T + bias (rows,). T, n and rows are counts. The weight is in panels: 8 of its rows,
  ;; transposed to (n, 8), then the next 8. Weight and bias are padded with zeros to a multiple of 32 rows.
  (func (export "linear") (param $out i32) (param $weight i32) (param $bias i32) (param $x i32)
    (param $T i32) (param $n i32) (param $rows i32)
    (local $t i32) (local $from i32) (local $to i32) (local $i i32)
    (local $x_step i32) (local $out_step i32) (local $panel i32)
    (local.set $x_step (i32.shl (local.get $n) (i32.const 2)))
    (local.set $out_step (i32.shl (local.get $rows) (i32.const 2)))
    (local.set $panel (i32.shl (local.get $n) (i32.const 5)))
    (loop $next ;; 32 rows, which are in the cache after the first time
      (local.set $t (local.get $T))
      (local.set $from (local.get $x))
      (local.set $to (local.get $out))
      (loop $places
        (if (i32.and (i32.ge_u (local.get $t) (i32.const 4)) (i32.ge_s (local.get $rows) (i32.const 32)))
          (then
            (local.set $i (i32.const 0))
            (loop $panels
              (call $mix_four (i32.add (local.get $to) (i32.shl (local.get $i) (i32.const 5))) (local.get $out_step)
                (i32.add (local.get $bias) (i32.shl (local.get $i) (i32.const 5)))
                (local.get $from) (local.get $n)
                (i32.add (local.get $weight) (i32.mul (local.get $i) (local.get $panel))))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br_if $panels (i32.lt_u (local.get $i) (i32.const 4)))))
          (else
            (local.set $i (i32.const 1))
            (call $into (local.get $to) (local.get $rows) (local.get $bias) (local.get $from) (local.get $n)
              (local.get $weight) (local.get $panel) (i32.const 32))))
        ;; i is now the number of characters that are done: 4 or 1
        (local.set $from (i32.add (local.get $from) (i32.mul (local.get $i) (local.get $x_step))))
        (local.set $to (i32.add (local.get $to) (i32.mul (local.get $i) (local.get $out_step))))
        (local.set $t (i32.sub (local.get $t) (local.get $i)))
        (br_if $places (local.get $t)))
      (local.set $out (i32.add (local.get $out) (i32.const 128)))
      (local.set $bias (i32.add (local.get $bias) (i32.const 128)))
      (local.set $weight (i32.add (local.get $weight) (i32.shl (local.get $panel) (i32.const 2))))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 32))) ;; that are left
      (br_if $next (i32.gt_s (local.get $rows) (i32.const 0)))))

  ;; out[0..32) = bias[0..32) + scale * scales[0..32) * the sum over k < n of q[k] * m[k][0..32), with whole numbers: 16 bits
  ;; in q and 8 in m. m is in four parts of 8 columns, `gap` bytes apart; two rows of a part take turns, column by column.
  (func $mix8 (param $out i32) (param $bias i32) (param $scales i32) (param $scale f32) (param $q i32) (param $n i32)
    (param $m i32) (param $gap i32)
    (local $end i32) (local $m1 i32) (local $m2 i32) (local $m3 i32) (local $v v128)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128)
    (local $e v128) (local $f v128) (local $g v128) (local $h v128)
    (local.set $end (i32.add (local.get $q) (i32.shl (local.get $n) (i32.const 1))))
    (local.set $m1 (i32.add (local.get $m) (local.get $gap)))
    (local.set $m2 (i32.add (local.get $m1) (local.get $gap)))
    (local.set $m3 (i32.add (local.get $m2) (local.get $gap)))
    (loop $next
      (local.set $v (v128.load32_splat (local.get $q))) ;; two numbers of q, four times
      (local.set $a (i32x4.add (local.get $a) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=0 (local.get $m)))))
      (local.set $b (i32x4.add (local.get $b) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=8 (local.get $m)))))
      (local.set $m (i32.add (local.get $m) (i32.const 16)))
      (local.set $c (i32x4.add (local.get $c) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=0 (local.get $m1)))))
      (local.set $d (i32x4.add (local.get $d) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=8 (local.get $m1)))))
      (local.set $m1 (i32.add (local.get $m1) (i32.const 16)))
      (local.set $e (i32x4.add (local.get $e) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=0 (local.get $m2)))))
      (local.set $f (i32x4.add (local.get $f) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=8 (local.get $m2)))))
      (local.set $m2 (i32.add (local.get $m2) (i32.const 16)))
      (local.set $g (i32x4.add (local.get $g) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=0 (local.get $m3)))))
      (local.set $h (i32x4.add (local.get $h) (i32x4.dot_i16x8_s (local.get $v) (v128.load8x8_s offset=8 (local.get $m3)))))
      (local.set $m3 (i32.add (local.get $m3) (i32.const 16)))
      (local.set $q (i32.add (local.get $q) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $q) (local.get $end))))
    (local.set $v (f32x4.splat (local.get $scale)))
    (v128.store offset=0 (local.get $out) (f32x4.add (v128.load offset=0 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $a)) (f32x4.mul (local.get $v) (v128.load offset=0 (local.get $scales))))))
    (v128.store offset=16 (local.get $out) (f32x4.add (v128.load offset=16 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $b)) (f32x4.mul (local.get $v) (v128.load offset=16 (local.get $scales))))))
    (v128.store offset=32 (local.get $out) (f32x4.add (v128.load offset=32 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $c)) (f32x4.mul (local.get $v) (v128.load offset=32 (local.get $scales))))))
    (v128.store offset=48 (local.get $out) (f32x4.add (v128.load offset=48 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $d)) (f32x4.mul (local.get $v) (v128.load offset=48 (local.get $scales))))))
    (v128.store offset=64 (local.get $out) (f32x4.add (v128.load offset=64 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $e)) (f32x4.mul (local.get $v) (v128.load offset=64 (local.get $scales))))))
    (v128.store offset=80 (local.get $out) (f32x4.add (v128.load offset=80 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $f)) (f32x4.mul (local.get $v) (v128.load offset=80 (local.get $scales))))))
    (v128.store offset=96 (local.get $out) (f32x4.add (v128.load offset=96 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $g)) (f32x4.mul (local.get $v) (v128.load offset=96 (local.get $scales))))))
    (v128.store offset=112 (local.get $out) (f32x4.add (v128.load offset=112 (local.get $bias)) (f32x4.mul
      (f32x4.convert_i32x4_s (local.get $h)) (f32x4.mul (local.get $v) (v128.load offset=112 (local.get $scales)))))))

  ;; q[0..n) = round(x[0..n) / scale), in 16 bits. Return the scale, with which the largest becomes `most`. n is a multiple
  ;; of 4.
  (func $quantize (param $q i32) (param $x i32) (param $n i32) (param $most f32) (result f32)
    (local $at i32) (local $end i32) (local $a v128) (local $large v128) (local $scale f32)
    (local.set $at (local.get $x))
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
    (loop $largest
      (local.set $large (f32x4.pmax (local.get $large) (f32x4.abs (v128.load (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $largest (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $scale (f32.div (f32x4.extract_lane 0 (call $largest (local.get $large))) (local.get $most)))
    (local.set $large (f32x4.div (v128.const f32x4 1 1 1 1) (f32x4.splat (local.get $scale))))
    (loop $round ;; 0 / 0 becomes 0
      (local.set $a (i32x4.trunc_sat_f32x4_s (f32x4.nearest
        (f32x4.mul (v128.load (local.get $x)) (local.get $large)))))
      (v128.store64_lane 0 (local.get $q) (i16x8.narrow_i32x4_s (local.get $a) (local.get $a)))
      (local.set $q (i32.add (local.get $q) (i32.const 8)))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $round (i32.lt_u (local.get $x) (local.get $end))))
    (local.get $scale))

  ;; As "linear", with a weight of 8 bits and a scale for each of its rows. q (T, n) in 16 bits and q_scales (T,) are for the
  ;; rounded x; `most` is the largest number in q with which no sum can exceed 32 bits.
  (func (export "linear8") (param $out i32) (param $weight i32) (param $scales i32) (param $bias i32) (param $x i32)
    (param $q i32) (param $q_scales i32) (param $most f32) (param $T i32) (param $n i32) (param $rows i32)
    (local $t i32) (local $from i32) (local $to i32) (local $panel i32)
    (local.set $panel (i32.shl (local.get $n) (i32.const 3)))
    (loop $places
      (f32.store (i32.add (local.get $q_scales) (i32.shl (local.get $t) (i32.const 2))) (call $quantize
        (i32.add (local.get $q) (i32.shl (i32.mul (local.get $t) (local.get $n)) (i32.const 1)))
        (i32.add (local.get $x) (i32.shl (i32.mul (local.get $t) (local.get $n)) (i32.const 2)))
        (local.get $n) (local.get $most)))
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (br_if $places (i32.lt_u (local.get $t) (local.get $T))))
    (local.set $x (i32.shl (local.get $rows) (i32.const 2))) ;; from here on, the bytes of a row of out
    (loop $next ;; 32 rows, which are in the cache after the first time
      (local.set $t (i32.const 0))
      (local.set $from (local.get $q))
      (local.set $to (local.get $out))
      (loop $places
        (call $mix8 (select (local.get $to) (i32.const 128) (i32.ge_s (local.get $rows) (i32.const 32)))
          (local.get $bias) (local.get $scales)
          (f32.load (i32.add (local.get $q_scales) (i32.shl (local.get $t) (i32.const 2))))
          (local.get $from) (local.get $n) (local.get $weight) (local.get $panel))
        (if (i32.lt_s (local.get $rows) (i32.const 32))
          (then (memory.copy (local.get $to) (i32.const 128) (i32.shl (local.get $rows) (i32.const 2)))))
        (local.set $from (i32.add (local.get $from) (i32.shl (local.get $n) (i32.const 1))))
        (local.set $to (i32.add (local.get $to) (local.get $x)))
        (local.set $t (i32.add (local.get $t) (i32.const 1)))
        (br_if $places (i32.lt_u (local.get $t) (local.get $T))))
      (local.set $out (i32.add (local.get $out) (i32.const 128)))
      (local.set $bias (i32.add (local.get $bias) (i32.const 128)))
      (local.set $scales (i32.add (local.get $scales) (i32.const 128)))
      (local.set $weight (i32.add (local.get $weight) (i32.shl (local.get $panel) (i32.const 2))))
      (local.set $rows (i32.sub (local.get $rows) (i32.const 32))) ;; that are left
      (br_if $next (i32.gt_s (local.get $rows) (i32.const 0)))))

  ;; Self-attention of one character: out (C,), q (C,), keys (C, S), values (nh, S, W). hs, length and S are counts: of
  ;; numbers per head, of characters so far, and of those there is room for. W is hs, and S a multiple, rounded up to 32.
  (func (export "attend") (param $out i32) (param $q i32) (param $keys i32) (param $values i32) (param $wei i32)
    (param $nh i32) (param $hs i32) (param $S i32) (param $length i32)
    (local $i i32) (local $head_bytes i32) (local $row_bytes i32) (local $place_bytes i32)
    (local.set $head_bytes (i32.shl (local.get $hs) (i32.const 2)))
    (local.set $row_bytes (i32.and (i32.add (local.get $head_bytes) (i32.const 127)) (i32.const -128)))
    (local.set $place_bytes (i32.shl (local.get $S) (i32.const 2)))
    (loop $head
      ;; affinity of the query with each key so far, and a few beyond
      (local.set $i (i32.const 0))
      (loop $keys_of
        (call $mix (i32.add (local.get $wei) (local.get $i)) (i32.const 0) (local.get $q) (local.get $hs)
          (i32.add (local.get $keys) (local.get $i)) (i32.const 32) (local.get $place_bytes))
        (local.set $i (i32.add (local.get $i) (i32.const 128)))
        (br_if $keys_of (i32.lt_u (local.get $i) (i32.shl (local.get $length) (i32.const 2)))))
      (call $softmax (local.get $wei) (local.get $length)
        (f32.div (f32.const 1) (f32.sqrt (f32.convert_i32_u (local.get $hs)))))
      ;; weighted sum of the values
      (local.set $i (i32.const 0))
      (loop $values_of
        (call $into (i32.add (local.get $out) (local.get $i))
          (i32.sub (local.get $hs) (i32.shr_u (local.get $i) (i32.const 2)))
          (i32.const 0) (local.get $wei) (local.get $length)
          (i32.add (local.get $values) (local.get $i)) (i32.const 32) (local.get $row_bytes))
        (local.set $i (i32.add (local.get $i) (i32.const 128)))
        (br_if $values_of (i32.lt_u (local.get $i) (local.get $row_bytes))))
      (local.set $q (i32.add (local.get $q) (local.get $head_bytes)))
      (local.set $out (i32.add (local.get $out) (local.get $head_bytes)))
      (local.set $keys (i32.add (local.get $keys) (i32.mul (local.get $head_bytes) (local.get $S))))
      (local.set $values (i32.add (local.get $values) (i32.mul (local.get $row_bytes) (local.get $S))))
      (local.set $nh (i32.sub (local.get $nh) (i32.const 1)))
      (br_if $head (local.get $nh))))

  ;; wei[0..length) = softmax(scale * wei[0..length)). Up to four more numbers are overwritten.
  (func $softmax (param $wei i32) (param $length i32) (param $scale f32)
    (local $at i32) (local $end i32) (local $most v128) (local $sum v128) (local $x v128) (local $k v128) (local $r v128)
    (local.set $end (i32.add (local.get $wei) (i32.shl (local.get $length) (i32.const 2))))
    (v128.store (local.get $end) (v128.const f32x4 -inf -inf -inf -inf)) ;; the rest of the last four
    (local.set $most (v128.const f32x4 -inf -inf -inf -inf))
    (local.set $at (local.get $wei))
    (loop $largest
      (local.set $most (f32x4.pmax (local.get $most) (v128.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $largest (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $most (call $largest (local.get $most)))
    (local.set $at (local.get $wei))
    (loop $exponential ;; e^x = 2^k e^r with a whole k and a small r, e^r by the polynomial of Cephes' expf
      (local.set $x (f32x4.pmax
        (f32x4.mul (f32x4.sub (v128.load (local.get $at)) (local.get $most)) (f32x4.splat (local.get $scale)))
        (v128.const f32x4 -87 -87 -87 -87))) ;; e^-87 is negligible next to the largest, which is 1
      ;; adding 1.5 * 2^23 rounds to a whole number and leaves it in the lowest bits
      (local.set $k (f32x4.add (f32x4.mul (local.get $x) (v128.const f32x4 1.44269504 1.44269504 1.44269504 1.44269504))
        (v128.const f32x4 12582912 12582912 12582912 12582912)))
      (local.set $r (f32x4.sub (local.get $k) (v128.const f32x4 12582912 12582912 12582912 12582912)))
      (local.set $r (f32x4.add
        (f32x4.sub (local.get $x) (f32x4.mul (local.get $r) (v128.const f32x4 0.693359375 0.693359375 0.693359375 0.693359375)))
        (f32x4.mul (local.get $r) (v128.const f32x4 2.12194440e-4 2.12194440e-4 2.12194440e-4 2.12194440e-4))))
      (local.set $x (f32x4.add (f32x4.mul (local.get $r) (v128.const f32x4 1.9875691500e-4 1.9875691500e-4 1.9875691500e-4 1.9875691500e-4)) (v128.const f32x4 1.3981999507e-3 1.3981999507e-3 1.3981999507e-3 1.3981999507e-3)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 8.3334519073e-3 8.3334519073e-3 8.3334519073e-3 8.3334519073e-3)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 4.1665795894e-2 4.1665795894e-2 4.1665795894e-2 4.1665795894e-2)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 1.6666665459e-1 1.6666665459e-1 1.6666665459e-1 1.6666665459e-1)))
      (local.set $x (f32x4.add (f32x4.mul (local.get $x) (local.get $r)) (v128.const f32x4 5.0000001201e-1 5.0000001201e-1 5.0000001201e-1 5.0000001201e-1)))
      (local.set $x (f32x4.add (f32x4.add (f32x4.mul (local.get $x) (f32x4.mul (local.get $r) (local.get $r)))
        (local.get $r)) (v128.const f32x4 1 1 1 1)))
      (local.set $x (i32x4.add (local.get $x) (i32x4.shl (local.get $k) (i32.const 23)))) ;; times 2^k
      (v128.store (local.get $at) (local.get $x))
      (local.set $sum (f32x4.add (local.get $sum) (local.get $x)))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $exponential (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $sum (f32x4.div (v128.const f32x4 1 1 1 1) (call $total (local.get $sum))))
    (local.set $at (local.get $wei))
    (loop $share
      (v128.store (local.get $at) (f32x4.mul (v128.load (local.get $at)) (local.get $sum)))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $share (i32.lt_u (local.get $at) (local.get $end)))))

  ;; Rotary positions (if `cos` isn't 0) and norm (if `normed` isn't 0) for `count` queries and keys, one after the other,
  ;; hs numbers each. hs is a multiple of 8; cos and sin are (hs / 2,).
  (func (export "turn") (param $z i32) (param $count i32) (param $hs i32) (param $cos i32) (param $sin i32) (param $normed i32)
    (local $i i32) (local $half i32) (local $at i32)
    (local $a v128) (local $b v128) (local $c v128) (local $s v128)
    (local.set $half (i32.shl (local.get $hs) (i32.const 1)))
    (loop $next
      (if (local.get $cos)
        (then
          (local.set $i (i32.const 0))
          (loop $pairs
            (local.set $at (i32.add (local.get $z) (local.get $i)))
            (local.set $a (v128.load (local.get $at)))
            (local.set $b (v128.load (i32.add (local.get $at) (local.get $half))))
            (local.set $c (v128.load (i32.add (local.get $cos) (local.get $i))))
            (local.set $s (v128.load (i32.add (local.get $sin) (local.get $i))))
            (v128.store (local.get $at) (f32x4.add
              (f32x4.mul (local.get $a) (local.get $c)) (f32x4.mul (local.get $b) (local.get $s))))
            (v128.store (i32.add (local.get $at) (local.get $half)) (f32x4.sub
              (f32x4.mul (local.get $b) (local.get $c)) (f32x4.mul (local.get $a) (local.get $s))))
            (local.set $i (i32.add (local.get $i) (i32.const 16)))
            (br_if $pairs (i32.lt_u (local.get $i) (local.get $half))))))
      (if (local.get $normed) (then (call $rms_norm (local.get $z) (local.get $z) (local.get $hs))))
      (local.set $z (i32.add (local.get $z) (i32.shl (local.get $hs) (i32.const 2))))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br_if $next (local.get $count))))

  ;; out[0..n) = x[0..n), divided by its root mean square. n is a multiple of 4.
  (func $rms_norm (export "rmsNorm") (param $out i32) (param $x i32) (param $n i32)
    (local $at i32) (local $end i32) (local $sum v128) (local $a v128)
    (local.set $at (local.get $x))
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
    (loop $square
      (local.set $a (v128.load (local.get $at)))
      (local.set $sum (f32x4.add (local.get $sum) (f32x4.mul (local.get $a) (local.get $a))))
      (local.set $at (i32.add (local.get $at) (i32.const 16)))
      (br_if $square (i32.lt_u (local.get $at) (local.get $end))))
    (local.set $sum (call $total (local.get $sum)))
    (local.set $sum (f32x4.div (v128.const f32x4 1 1 1 1) (f32x4.sqrt (f32x4.add
      (f32x4.div (local.get $sum) (f32x4.splat (f32.convert_i32_u (local.get $n))))
      (v128.const f32x4 1e-6 1e-6 1e-6 1e-6)))))
    (loop $scale
      (v128.store (local.get $out) (f32x4.mul (v128.load (local.get $x)) (local.get $sum)))
      (local.set $out (i32.add (local.get $out) (i32.const 16)))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $scale (i32.lt_u (local.get $x) (local.get $end)))))

  ;; The sum of four numbers, four times.
  (func $total (param $a v128) (result v128)
    (local.set $a (f32x4.add (local.get $a)
      (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $a) (local.get $a))))
    (f32x4.add (local.get $a)
      (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $a) (local.get $a))))

  ;; The largest of four numbers, four times.
  (func $largest (param $a v128) (result v128)
    (local.set $a (f32x4.pmax (local.get $a)
      (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $a) (local.get $a))))
    (f32x4.pmax (local.get $a)
      (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $a) (local.get $a))))

  ;; x[0..n) += y[0..n). Here and in $relu, up to three more numbers are changed.
  (func (export "add") (param $x i32) (param $y i32) (param $n i32)
    (local $end i32)
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
    (loop $next
      (v128.store (local.get $x) (f32x4.add (v128.load (local.get $x)) (v128.load (local.get $y))))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (local.set $y (i32.add (local.get $y) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $x) (local.get $end)))))

  ;; x[0..n) = max(0, x[0..n)), squared if asked for.
  (func (export "relu") (param $x i32) (param $n i32) (param $squared i32)
    (local $end i32) (local $a v128)
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
    (loop $next
      (local.set $a (f32x4.pmax (v128.load (local.get $x)) (v128.const f32x4 0 0 0 0)))
      (if (local.get $squared) (then (local.set $a (f32x4.mul (local.get $a) (local.get $a)))))
      (v128.store (local.get $x) (local.get $a))
      (local.set $x (i32.add (local.get $x) (i32.const 16)))
      (br_if $next (i32.lt_u (local.get $x) (local.get $end)))))
)
