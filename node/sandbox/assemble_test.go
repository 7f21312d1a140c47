package sandbox

import (
	"encoding/binary"
	"slices"
)

// A small assembler for modules that no compiler would make.

func uleb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func sleb(n int64) []byte {
	var out []byte
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func vec(items ...[]byte) []byte { return cat(uleb(len(items)), cat(items...)) }

func name(s string) []byte { return cat(uleb(len(s)), []byte(s)) }

func section(id byte, content ...[]byte) []byte {
	all := cat(content...)
	return cat([]byte{id}, uleb(len(all)), all)
}

func assemble(sections ...[]byte) []byte { return cat([]byte(header), cat(sections...)) }

// Types of functions, by their index in types().
const (
	tVoid = iota // () -> ()
	tI32         // () -> i32
	tExit        // i32 -> ()
	tTwo         // i32 i32 -> i32
	tFour        // i32 i32 i32 i32 -> i32
)

const (
	i32 = 0x7f
	end = 0x0b
)

func types() []byte {
	return section(typeSection, vec(
		[]byte{0x60, 0, 0}, []byte{0x60, 0, 1, i32}, []byte{0x60, 1, i32, 0},
		[]byte{0x60, 2, i32, i32, 1, i32}, []byte{0x60, 4, i32, i32, i32, i32, 1, i32}))
}

func wasiImport(f string, typ byte) []byte {
	return cat(name("wasi_snapshot_preview1"), name(f), []byte{0, typ})
}

func exports(of ...[]byte) []byte { return section(exportSection, vec(of...)) }

func exportFunc(as string, index int) []byte { return cat(name(as), []byte{0}, uleb(index)) }

func exportMemory() []byte { return cat(name("memory"), []byte{2, 0}) }

func memoryOf(pages int) []byte { return section(memorySection, vec(cat([]byte{0}, uleb(pages)))) }

// function is an item of the code section, without locals.
func function(code ...[]byte) []byte {
	body := cat([]byte{0}, cat(code...), []byte{end})
	return cat(uleb(len(body)), body)
}

func i32const(n int64) []byte { return cat([]byte{0x41}, sleb(n)) }

func call(index int) []byte { return cat([]byte{0x10}, uleb(index)) }

func drop() []byte { return []byte{0x1a} }

// dataAt is an active data segment.
func dataAt(offset int64, bytes string) []byte {
	return cat([]byte{0}, i32const(offset), []byte{end}, name(bytes))
}

// abi1 is a module of one page that exports _start and output_len with these bodies.
func abi1(start, outputLen []byte) []byte {
	return assemble(types(),
		section(functionSection, vec([]byte{tVoid}, []byte{tI32})),
		memoryOf(1),
		exports(exportFunc("_start", 0), exportFunc("output_len", 1), exportMemory()),
		section(codeSection, vec(function(start), function(outputLen))),
		section(dataSection, vec(dataAt(0, "answer"))))
}

// abi2 is a module of one page that imports these functions of WASI and exports _start.
func abi2(start []byte, imports ...[]byte) []byte {
	return assemble(types(),
		section(importSection, vec(imports...)),
		section(functionSection, vec([]byte{tVoid})),
		memoryOf(1),
		exports(exportFunc("_start", len(imports)), exportMemory()),
		section(codeSection, vec(function(start))),
		// An iovec of 16 bytes at 64.
		section(dataSection, vec(dataAt(0, "\x40\x00\x00\x00\x10\x00\x00\x00"), dataAt(64, "no such province"))))
}

// write writes the iovec at 0 to a file, by the import of that index.
func write(fd int64, imported int) []byte {
	return cat(i32const(fd), i32const(0), i32const(1), i32const(32), call(imported), drop())
}
