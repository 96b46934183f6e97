"""The kernels of ``triton_engine``, for CUDA.

Arrays, all contiguous: x and dx (outer, J, length), y and g (outer, J, R, length), coef (J, R, M), weight (J, R). A program
belongs to one block j of channels and walks over every ``num_programs(1)``-th tile of TILE_ROWS × COLS elements, so that sums
stay in registers from the first tile to the last. u = x·SCALE + SHIFT, held in 0 … TOP, is row + position t of the piece.
Tuples of tensors stand for arrays of registers; they grow with + because the language of the kernels knows no star.
"""

# ruff: noqa: RUF005

import triton
import triton.language as tl


@triton.jit
def _reciprocal(x):
    """1/x for x ≥ 1, to 3e-7 in float32: two operations, and not the eight of a division."""
    if x.dtype == tl.float64:
        out = 1.0 / x
    else:
        root = tl.rsqrt(x)
        out = root * root
    return out


@triton.jit
def _converted_base(x, BASE: tl.constexpr):
    """The same of the bases that other people's networks bring along."""
    if BASE == "relu6":
        value = tl.where(x <= 0.0, 0.0, tl.where(x >= 6.0, 6.0, x))
        slope = tl.where(x != x, x, tl.where((x > 0.0) & (x < 6.0), 1.0, 0.0))
    elif BASE == "hardtanh":
        value = tl.where(x <= -1.0, -1.0, tl.where(x >= 1.0, 1.0, x))
        slope = tl.where(x != x, x, tl.where((x > -1.0) & (x < 1.0), 1.0, 0.0))
    elif BASE == "hardswish":
        value = x * tl.where(x <= -3.0, 0.0, tl.where(x >= 3.0, 1.0, x * 0.16666666666666666 + 0.5))
        slope = tl.where(x < -3.0, 0.0, tl.where(x > 3.0, 1.0, x * 0.3333333333333333 + 0.5))
    elif BASE == "elu":
        e = tl.exp(tl.where(x > 0.0, 0.0, x))
        value, slope = tl.where(x > 0.0, x, e - 1.0), e
    elif BASE == "mish":
        e = tl.exp(tl.where(x > 20.0, 20.0, x))  # beyond, tanh(softplus(x)) is 1
        n = e * (e + 2.0)
        t, rest = n / (n + 2.0), 2.0 / (n + 2.0)  # rest is 1 - t
        value = x * t  # of infinity the slope is NaN in torch, too
        slope = tl.where(x > 20.0, 1.0 + (x - x), t + x * rest * (1.0 + t) * e / (1.0 + e))
    elif BASE == "softplus":
        e = tl.exp(-tl.abs(x))
        value = tl.where(x < 0.0, 0.0, x) + tl.log(1.0 + e)
        slope = tl.where(x < 0.0, e, 1.0) / (1.0 + e)
    else:
        tl.static_assert(BASE == "sigmoid", "unknown base activation")
        value = _reciprocal(1.0 + tl.exp2(x * -1.4426950408889634))
        slope = value * (1.0 - value)
    return value, slope


@triton.jit
def _base(x, BASE: tl.constexpr, LEAK: tl.constexpr):
    """Base activation and its derivative; what a kernel does not use costs nothing."""
    if BASE == "silu":
        s = _reciprocal(1.0 + tl.exp2(x * -1.4426950408889634))
        value, slope = x * s, s * (1.0 + x * (1.0 - s))
    elif BASE == "identity":
        value, slope = x, tl.full(x.shape, 1.0, x.dtype)
    elif BASE == "relu":
        value = tl.where(x <= 0.0, 0.0, x)  # NaN stays NaN
        slope = tl.where(x != x, x, tl.where(x > 0.0, 1.0, 0.0))
    elif BASE == "leaky_relu":
        value = tl.where(x > 0.0, x, x * LEAK)
        one = tl.full(x.shape, 1.0, x.dtype)
        slope = tl.where(x != x, x, tl.where(x > 0.0, one, one * LEAK))
    elif BASE == "gelu":
        cumulative = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
        value, slope = x * cumulative, cumulative + x * tl.exp(-0.5 * x * x) * 0.3989422804014327
    elif BASE == "tanh":
        e = tl.exp(-2.0 * tl.abs(x))
        size = (1.0 - e) * _reciprocal(1.0 + e)
        value, slope = tl.where(x < 0.0, -size, size), 1.0 - size * size
    else:
        value, slope = _converted_base(x, BASE)
    return value, slope


@triton.jit
def _polynomial(t, PIECES: tl.constexpr, Q: tl.constexpr):
    """Σ_p PIECES[Q][p] t^p; Triton 3.6 hands on a tuple of tuples, none of numbers that came out of one."""
    out = t * PIECES[Q][len(PIECES[Q]) - 1] + PIECES[Q][len(PIECES[Q]) - 2]
    for p in tl.static_range(len(PIECES[Q]) - 3, -1, -1):
        out = out * t + PIECES[Q][p]
    return out


@triton.jit
def _locate(x, SCALE: tl.constexpr, SHIFT: tl.constexpr, TOP: tl.constexpr):
    """Row of the table and position in it; NaN goes to row 0, the base branch carries it on."""
    u = tl.minimum(tl.maximum(x * SCALE + SHIFT, 0.0), TOP)
    row = u.to(tl.int32)
    return row, u - row.to(x.dtype)


@triton.jit
def write_tables(coef, tables, R: tl.constexpr, M: tl.constexpr, K: tl.constexpr, POLY: tl.constexpr, ROWS: tl.constexpr):
    """Polynomial coefficients of every interval for the R activations of one block, ``(R, powers, ROWS)``.

    POLY[q][p] is the coefficient of t^p of the q-th basis function that lives on an interval. Every program keeps a copy of
    its own, a few hundred bytes that stay in the L1 cache: no launch before this one, and nothing to wait for.
    """
    rows = tl.arange(0, ROWS)
    for r in range(R):
        for p in tl.static_range(len(POLY[0])):
            total = tl.zeros([ROWS], tables.dtype.element_ty)
            for q in tl.static_range(K + 1):
                m = rows - (K + 1) + q
                total += tl.load(coef + r * M + m, (m >= 0) & (m < M), 0.0).to(total.dtype) * POLY[q][p]
            tl.store(tables + (r * len(POLY[0]) + p) * ROWS + rows, total)
    tl.debug_barrier()


@triton.jit
def _look_up(table, row, t, POWERS: tl.constexpr, ROWS: tl.constexpr):
    """Horner's rule with the coefficients of every element's row."""
    out = tl.load(table + (POWERS - 1) * ROWS + row)
    for p in tl.static_range(POWERS - 2, -1, -1):
        out = out * t + tl.load(table + p * ROWS + row)
    return out


@triton.jit
def _derivative(table, base_slope, row, t, EXACT: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr):
    """What the input is told of φ'(x): all of it, or w b'(x) alone."""
    return base_slope + _look_up(table, row, t, K, ROWS) if EXACT else base_slope


@triton.jit
def _tile(tile, outer, length, TILE_ROWS: tl.constexpr, COLS: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr):
    """Outer index and position in the block of every element of a tile, and which of them exist; FLAT says that outer is 1."""
    lane = tl.arange(0, TILE_ROWS * COLS)
    if WIDE:
        lane = lane.to(tl.int64)
    if FLAT:
        row, column = tile * 0, tile * COLS + lane
        mask = column < length
    else:
        across = tl.cdiv(length, COLS)
        row, column = (tile // across) * TILE_ROWS + lane // COLS, (tile % across) * COLS + lane % COLS
        mask = (row < outer) & (column < length)
    return row, column, mask


@triton.jit
def write_activations(
    values,
    y,
    at,
    step,
    mask,
    weight,
    tables,
    R: tl.constexpr,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    TOP: tl.constexpr,
    BASE: tl.constexpr,
    LEAK: tl.constexpr,
):
    """φ_r of a tile of values to y + at + r·step, for all R activations of a block."""
    piece, t = _locate(values, SCALE, SHIFT, TOP)
    activated, _ = _base(values, BASE, LEAK)
    for r in range(R):
        w = tl.load(weight + r).to(values.dtype)
        out = _look_up(tables + r * ((K + 1) * ROWS), piece, t, K + 1, ROWS) + w * activated
        tl.store(y + at, out, mask)
        at += step  # and not r·step, which 32 bits might not hold


@triton.jit
def forward_kernel(
    x,
    coef,
    weight,
    y,
    tables,
    outer,
    length,
    R: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    POLY: tl.constexpr,
    ROWS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    TOP: tl.constexpr,
    BASE: tl.constexpr,
    LEAK: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    COLS: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
):
    """y = w b(x) + Σ_p T[row, p] t^p for the R activations of block ``program_id(0)``."""
    j, worker, blocks = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    tables += (worker * blocks + j) * (R * (K + 1) * ROWS)
    write_tables(coef + j * (R * M), tables, R, M, K, POLY, ROWS)
    tiles = tl.cdiv(outer, TILE_ROWS) * tl.cdiv(length, COLS)
    for tile in range(worker.to(tl.int64) if WIDE else worker, tiles, tl.num_programs(1)):
        row, column, mask = _tile(tile, outer, length, TILE_ROWS, COLS, FLAT, WIDE)
        segment = row * blocks + j
        values = tl.load(x + segment * length + column, mask, 0.0).to(tables.dtype.element_ty)
        at = segment * R * length + column
        write_activations(values, y, at, length, mask, weight + j * R, tables, R, K, ROWS, SCALE, SHIFT, TOP, BASE, LEAK)


@triton.jit
def _add_products(sums, g, activated, row, t, first, SPAN: tl.constexpr, K: tl.constexpr, PIECES: tl.constexpr):
    """Adds g·B_m(x) for SPAN basis functions from 2·first on, and g·b(x): one register each for every element of the tile.

    Only k + 1 of the products differ from zero, but which ones is known at run time alone, and registers have no addresses.
    Adding every product under a mask costs (k + 1)·M multiply-adds and M + k masks. Sorting the products by the parity of the
    row first (k + 2 selections) halves the masks and merges the terms of the rows 2h and 2h + 1: for cubics and M = 8 that is
    20 multiply-adds, 6 masks and 5 selections, against 88 operations for the closed form of all eight B_m.
    """
    odd, half = (row & 1) != 0, tl.floor(row.to(t.dtype) * 0.5) - first  # equality of floats costs one operation, of ints two
    products = ()
    for q in tl.static_range(K + 1):
        products = products + (g * _polynomial(t, PIECES, q),)
    window = (tl.where(odd, 0.0, products[0]),)
    for q in tl.static_range(K):
        window = window + (tl.where(odd, products[q], products[q + 1]),)
    window = window + (tl.where(odd, products[K], 0.0),)
    masks = ()
    for h in tl.static_range((SPAN + K) // 2 + 1):
        masks = masks + (tl.where(half == h, 1.0, 0.0).to(t.dtype),)
    new = ()
    for m in tl.static_range(SPAN):
        total = sums[m]
        for h in tl.static_range((m + 1) // 2, (m + K + 1) // 2 + 1):
            total += masks[h] * window[m + K + 1 - 2 * h]
        new = new + (total,)
    return new + (sums[SPAN] + g * activated,)


@triton.jit
def _store_sums(to, sums, part, M: tl.constexpr, SPAN: tl.constexpr):
    """The sums over a program's elements to their places among ``(M + 1,)``; g·b(x) by the first part alone."""
    for m in tl.static_range(SPAN):
        tl.store(to + part * SPAN + m, tl.sum(sums[m]), part * SPAN + m < M)
    tl.store(to + M, tl.sum(sums[SPAN]), part == 0)


@triton.jit
def store_all_sums(to, sums, part, M: tl.constexpr, SPAN: tl.constexpr, R_SPAN: tl.constexpr):
    """Those of R_SPAN activations."""
    if SPAN > 0:
        for r in tl.static_range(R_SPAN):
            _store_sums(to + r * (M + 1), sums[r * (SPAN + 1) : (r + 1) * (SPAN + 1)], part, M, SPAN)


@triton.jit
def differentiate(
    sums,
    values,
    g,
    at,
    step,
    mask,
    weight,
    tables,
    part,
    K: tl.constexpr,
    PIECES: tl.constexpr,
    ROWS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    TOP: tl.constexpr,
    BASE: tl.constexpr,
    LEAK: tl.constexpr,
    EXACT: tl.constexpr,
    INPUT: tl.constexpr,
    SPAN: tl.constexpr,
    R_SPAN: tl.constexpr,
):
    """The sums with a tile's products added (SPAN > 0), and the gradient of its values (INPUT); g_r is at g + at + r·step."""
    piece, t = _locate(values, SCALE, SHIFT, TOP)
    activated, slope = _base(values, BASE, LEAK)
    total = tl.zeros(values.shape, values.dtype)
    new = ()
    for r in tl.static_range(R_SPAN):
        gr = tl.load(g + at, mask, 0.0).to(values.dtype)
        at += step
        if INPUT:
            w = tl.load(weight + r).to(values.dtype)
            total += gr * _derivative(tables + r * (K * ROWS), w * slope, piece, t, EXACT, K, ROWS)
        if SPAN > 0:
            mine = sums[r * (SPAN + 1) : (r + 1) * (SPAN + 1)]
            new = new + _add_products(mine, gr, activated, piece, t, part * (SPAN // 2), SPAN, K, PIECES)
    return new if SPAN > 0 else sums, total


@triton.jit
def backward_kernel(
    g,
    x,
    coef,
    weight,
    dx,
    tables,
    partials,
    outer,
    length,
    R: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    PIECES: tl.constexpr,
    SLOPES: tl.constexpr,
    ROWS: tl.constexpr,
    SCALE: tl.constexpr,
    SHIFT: tl.constexpr,
    TOP: tl.constexpr,
    BASE: tl.constexpr,
    LEAK: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    COLS: tl.constexpr,
    FLAT: tl.constexpr,
    WIDE: tl.constexpr,
    EXACT: tl.constexpr,
    INPUT: tl.constexpr,
    SPAN: tl.constexpr,
    R_SPAN: tl.constexpr,
):
    """dx where INPUT; sums of g·B_m(x) and g·b(x) of this program into partials (workers, J, R, M + 1) where SPAN > 0.

    ``program_id(2)`` picks R_SPAN activations and SPAN basis functions; there is one choice where everything fits registers.
    """
    j, worker, blocks = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    parts: tl.constexpr = (M + SPAN - 1) // SPAN if SPAN else 1
    r_first, part = (tl.program_id(2) // parts) * R_SPAN, tl.program_id(2) % parts
    tables += (worker * blocks + j) * (R * K * ROWS)
    if INPUT and EXACT:
        write_tables(coef + j * (R * M), tables, R, M, K, SLOPES, ROWS)
    zero = tl.zeros([TILE_ROWS * COLS], partials.dtype.element_ty)
    sums = (zero,) * (R_SPAN * (SPAN + 1))
    tiles = tl.cdiv(outer, TILE_ROWS) * tl.cdiv(length, COLS)
    for tile in range(worker.to(tl.int64) if WIDE else worker, tiles, tl.num_programs(1)):
        row, column, mask = _tile(tile, outer, length, TILE_ROWS, COLS, FLAT, WIDE)
        segment = row * blocks + j
        values = tl.load(x + segment * length + column, mask, 0.0).to(zero.dtype)
        sums, total = differentiate(
            sums,
            values,
            g,
            (segment * R + r_first) * length + column,
            length,
            mask,
            weight + j * R + r_first,
            tables + r_first * (K * ROWS),
            part,
            K,
            PIECES,
            ROWS,
            SCALE,
            SHIFT,
            TOP,
            BASE,
            LEAK,
            EXACT,
            INPUT,
            SPAN,
            R_SPAN,
        )
        if INPUT:
            tl.store(dx + segment * length + column, total, mask)
    store_all_sums(partials + ((worker * blocks + j) * R + r_first) * (M + 1), sums, part, M, SPAN, R_SPAN)


@triton.jit
def sum_kernel(partials, d_coef, d_weight, workers, M: tl.constexpr, COLS: tl.constexpr, BLOCK: tl.constexpr):
    """partials (workers, J·R, M + 1) → d_coef (J·R, M) and d_weight (J·R,): the same additions in the same order every time."""
    a, count = tl.program_id(0), tl.num_programs(0)
    worker, m = tl.arange(0, BLOCK)[:, None], tl.arange(0, COLS)
    total = tl.zeros([BLOCK, COLS], partials.dtype.element_ty)
    for start in range(0, workers, BLOCK):
        here = start + worker
        total += tl.load(partials + (here * count + a) * (M + 1) + m[None, :], (here < workers) & (m[None, :] <= M), 0.0)
    summed = tl.sum(total, axis=0)
    tl.store(d_coef + a * M + m, summed, m < M)
    tl.store(d_weight + a + m * 0, summed, m == M)
