package sandbox

// maxCompileCost is the estimated cost up to which modules are compiled; more
// costly ones are interpreted. The compiler's time and memory are not in
// proportion to a module's size: 38 KB of nested loops over a thousand locals
// took it 80 s and 3.5 GB, 500 KB of br_table 60 s (wazero 1.12 on amd64). The
// worst module found below this bound takes 2 s and 300 MB. What compilers make
// costs about half a unit for each byte, and a microsecond for each unit.
const maxCompileCost = 500_000

// coster walks the instructions of one function and estimates what compiling
// it costs: at every place where control flow joins or leaves, the compiler
// looks at every local and every operand on the stack.
type coster struct {
	*reader
	s        *screener
	locals   uint64  // parameters included
	blocks   []block // open, the innermost last
	height   uint64  // of the operand stack
	branches uint64
	total    uint64
}

// block is an open block.
type block struct {
	base    uint64 // height of the stack below its parameters
	takes   uint64 // operands that a branch to it takes along
	results uint64
	params  uint64
}

// functionCost estimates one function from its index and its body, locals cut off.
func (s *screener) functionCost(index int, locals uint64, body *reader) uint64 {
	c := coster{reader: body, s: s, locals: locals}
	var results uint64
	if index < len(s.functions) {
		t := s.arityOf(s.functions[index])
		c.locals += t.params
		results = t.results
	}
	c.blocks = append(c.blocks, block{takes: results, results: results})
	for c.err == nil && len(c.data) > 0 {
		c.instruction(c.byte())
	}
	return c.total + c.branches*c.branches/8192
}

// instruction adds one instruction and skips its immediates
// (https://webassembly.github.io/spec/core/binary/instructions.html).
func (c *coster) instruction(op byte) {
	switch {
	case op == 0x02: // block
		c.open(false)
	case op == 0x03: // loop
		c.open(true)
	case op == 0x04: // if
		c.pop(1)
		c.open(false)
	case op == 0x05: // else
		if b := c.innermost(); b != nil {
			c.height = b.base + b.params
		}
	case op == 0x0b: // end
		if b := c.innermost(); b != nil {
			c.height = b.base + b.results
			c.blocks = c.blocks[:len(c.blocks)-1]
		}
	case op == 0x0c: // br
		c.branch(c.u32())
	case op == 0x0d: // br_if
		c.pop(1)
		c.branch(c.u32())
	case op == 0x0e: // br_table
		c.pop(1)
		for range c.count(maxElements, "branches") + 1 {
			c.branch(c.u32())
		}
	case op == 0x0f: // return
		c.branch(uint32(max(1, len(c.blocks)) - 1))
	case op == 0x10: // call
		if f := c.u32(); uint64(f) < uint64(len(c.s.functions)) {
			c.called(c.s.functions[f])
		}
	case op == 0x11: // call_indirect
		c.pop(1)
		c.called(c.u32())
		c.u32()
	default:
		c.move(c.plain(op))
	}
}

func (c *coster) innermost() *block {
	if len(c.blocks) == 0 {
		return nil
	}
	return &c.blocks[len(c.blocks)-1]
}

// pop takes n operands away. Behind a branch, where operands can be popped
// that never were, the stack of the block is just empty.
func (c *coster) pop(n uint64) {
	var base uint64
	if b := c.innermost(); b != nil {
		base = b.base
	}
	c.height = max(base, c.height-min(n, c.height))
}

// move is the net effect of an instruction on the stack.
func (c *coster) move(by int) {
	if by < 0 {
		c.pop(uint64(-by))
	} else {
		c.height += uint64(by)
	}
}

// open enters a block.
func (c *coster) open(loop bool) {
	t := c.blockType()
	c.pop(t.params)
	b := block{base: c.height, takes: t.results, results: t.results, params: t.params}
	if loop {
		b.takes = t.params
	}
	c.total += c.locals + c.height + t.params + t.results + uint64(len(c.blocks))/256
	c.height += t.params
	c.blocks = append(c.blocks, b)
}

func (c *coster) blockType() arity {
	switch b := c.byte(); {
	case b == 0x40:
		return arity{}
	case b < 0x40:
		return c.s.arityOf(uint32(b))
	case b < 0x80: // a value type: type indices begin with other bits
		return arity{results: 1}
	default: // a type index of several bytes
		index := uint32(b & 0x7f)
		for shift := 7; shift < 35; shift += 7 {
			next := c.byte()
			index |= uint32(next&0x7f) << shift
			if next < 0x80 {
				break
			}
		}
		return c.s.arityOf(index)
	}
}

func (c *coster) branch(label uint32) {
	c.branches++
	c.total += c.locals + c.height
	if n := len(c.blocks) - 1 - int(label); n >= 0 {
		c.total += c.blocks[n].takes
	}
}

func (c *coster) called(typ uint32) {
	t := c.s.arityOf(typ)
	c.total += (t.params + t.results + 4) / 4
	c.pop(t.params)
	c.height += t.results
}
