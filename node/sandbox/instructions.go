package sandbox

import "strings"

// plain skips the immediates of an instruction that neither branches nor
// calls, and tells what it does to the height of the operand stack.
func (c *coster) plain(op byte) int {
	switch {
	case op <= 0x01: // unreachable, nop
		return 0
	case op == 0x1a: // drop
		return -1
	case op == 0x1b: // select
		return -2
	case op == 0x1c: // select of a type
		vector(c.reader, maxParams, "types", valueType)
		return -2
	case op >= 0x20 && op <= 0x26: // local.get .set .tee, global.get .set, table.get .set
		c.u32()
		return [...]int{+1, -1, 0, +1, -1, 0, -2}[op-0x20]
	case op >= 0x28 && op <= 0x35: // loads
		return c.memoryArgument(0)
	case op >= 0x36 && op <= 0x3e: // stores
		return c.memoryArgument(-2)
	case op == 0x3f: // memory.size
		c.u32()
		return +1
	case op == 0x40: // memory.grow
		c.u32()
		return 0
	case op >= 0x41 && op <= 0x44: // constants
		c.constantOf(op)
		return +1
	case op >= 0x45 && op <= 0xc4:
		return numeric(op)
	case op == 0xd0: // ref.null
		c.byte()
		return +1
	case op == 0xd1: // ref.is_null
		return 0
	case op == 0xd2: // ref.func
		c.u32()
		return +1
	case op == 0xfc:
		return c.misc(c.u32())
	case op == 0xfd:
		return c.simd(c.u32())
	default:
		c.fail("instruction %#x is not taken", op)
		return 0
	}
}

func (c *coster) memoryArgument(effect int) int {
	c.u32()
	c.skipInt(10)
	return effect
}

func (c *coster) constantOf(op byte) {
	switch op {
	case 0x41: // i32
		c.skipInt(5)
	case 0x42: // i64
		c.skipInt(10)
	case 0x43: // f32
		c.take(4)
	case 0x44: // f64
		c.take(8)
	}
}

// numeric is the effect of comparisons, arithmetic and conversions: those of
// two operands leave one.
func numeric(op byte) int {
	switch {
	case op == 0x45, op == 0x50: // eqz
	case op <= 0x66: // comparisons
		return -1
	case op >= 0x6a && op <= 0x78, op >= 0x7c && op <= 0x8a: // of integers
		return -1
	case op >= 0x92 && op <= 0x98, op >= 0xa0 && op <= 0xa6: // of floats
		return -1
	}
	return 0
}

// misc is saturating conversions, bulk memory and tables.
func (c *coster) misc(op uint32) int {
	switch op {
	case 0, 1, 2, 3, 4, 5, 6, 7: // conversions
		return 0
	case 9, 13: // data.drop, elem.drop
		c.u32()
		return 0
	case 8, 10, 12, 14: // memory.init .copy, table.init .copy
		c.u32()
		c.u32()
		return -3
	case 11, 17: // memory.fill, table.fill
		c.u32()
		return -3
	case 15: // table.grow
		c.u32()
		return -1
	case 16: // table.size
		c.u32()
		return +1
	default:
		c.fail("instruction 0xfc %#x is not taken", op)
		return 0
	}
}

// unaryVectors are the vector instructions from 0x4d on with one operand; the
// others, but for a few that simd names, have two.
const unaryVectors = "\x4d\x53\x5e\x5f\x60\x61\x62\x63\x64\x67\x68\x69\x6a\x74\x75\x7a\x7c\x7d\x7e\x7f" +
	"\x80\x81\x83\x84\x87\x88\x89\x8a\x94\xa0\xa1\xa3\xa4\xa7\xa8\xa9\xaa\xc0\xc1\xc3\xc4\xc7\xc8\xc9\xca" +
	"\xe0\xe1\xe3\xec\xed\xef\xf8\xf9\xfa\xfb\xfc\xfd\xfe\xff"

// replaceLanes are the instructions of lanes with two operands.
const replaceLanes = "\x17\x1a\x1c\x1e\x20\x22"

// simd is vector instructions.
func (c *coster) simd(op uint32) int {
	switch {
	case op <= 0x0a, op == 0x5c, op == 0x5d: // loads
		return c.memoryArgument(0)
	case op == 0x0b: // store
		return c.memoryArgument(-2)
	case op == 0x0c: // const
		c.take(16)
		return +1
	case op == 0x0d: // shuffle
		c.take(16)
		return -1
	case op == 0x0e: // swizzle
		return -1
	case op <= 0x14: // splats
		return 0
	case op <= 0x22: // lanes
		c.byte()
		return -strings.Count(replaceLanes, string([]byte{byte(op)}))
	case op == 0x52: // bitselect
		return -2
	case op >= 0x54 && op <= 0x57: // loads of lanes
		defer c.byte()
		return c.memoryArgument(-1)
	case op >= 0x58 && op <= 0x5b: // stores of lanes
		defer c.byte()
		return c.memoryArgument(-2)
	case op > 0xff:
		c.fail("instruction 0xfd %#x is not taken", op)
		return 0
	case strings.IndexByte(unaryVectors, byte(op)) >= 0:
		return 0
	default:
		return -1
	}
}
