package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"github.com/tetratelabs/wazero"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func rep(b []byte, n int) []byte { return bytes.Repeat(b, n) }
func funcL(nl int, code ...[]byte) []byte {
	body := cat([]byte{1}, uleb(nl), []byte{i32}, cat(code...), []byte{end})
	return cat(uleb(len(body)), body)
}
func one(f []byte, ty ...[]byte) []byte {
	tt := types()
	if len(ty) > 0 {
		tt = ty[0]
	}
	return assemble(tt, section(functionSection, vec([]byte{0})), memoryOf(1), section(codeSection, vec(f)))
}
func TestExp(t *testing.T) {
	if os.Getenv("EXP") == "" {
		t.Skip()
	}
	var useall = func(v int) []byte {
		var o []byte
		for i := 0; i < v; i++ {
			o = append(o, cat([]byte{0x20}, uleb(i), i32const(1), []byte{0x6a, 0x21}, uleb(i))...)
		}
		return o
	}
	var getall = func(v int) []byte {
		var o []byte
		for i := 0; i < v; i++ {
			o = append(o, cat([]byte{0x20}, uleb(i), []byte{0x1a})...)
		}
		return o
	}
	_ = getall
	cases := map[string]func() []byte{}
	for _, s := range [][2]int{{300, 300}, {1000, 1000}, {3000, 1000}, {1000, 3000}} {
		V, L := s[0], s[1]
		cases[fmt.Sprintf("nested loops V=%d L=%d", V, L)] = func() []byte {
			return one(funcL(V, useall(V), rep([]byte{3, 0x40}, L), useall(V), rep([]byte{0x41, 0, 0x0d, 0, end}, L)))
		}
		cases[fmt.Sprintf("seq loops V=%d L=%d", V, L)] = func() []byte {
			return one(funcL(V, useall(V), rep([]byte{3, 0x40, 0x20, 0, 0x0d, 0, end}, L), useall(V)))
		}
		cases[fmt.Sprintf("seq ifs V=%d L=%d", V, L)] = func() []byte {
			return one(funcL(V, useall(V), rep([]byte{0x20, 0, 4, 0x40, 0x20, 1, 0x21, 2, end}, L), useall(V)))
		}
	}
	cases["blocks depth 100k"] = func() []byte { return one(funcL(1, rep([]byte{2, 0x40}, 100000), rep([]byte{end}, 100000))) }
	cases["straight 500k nops+adds"] = func() []byte { return one(funcL(1, rep([]byte{0x20, 0, 0x41, 1, 0x6a, 0x21, 0}, 140000))) }
	cases["br_table 500k"] = func() []byte {
		return one(funcL(1, []byte{2, 0x40, 0x20, 0, 0x0e}, uleb(500000), rep([]byte{0}, 500001), []byte{end}))
	}
	cases["loads 100k"] = func() []byte { return one(funcL(1, rep([]byte{0x20, 0, 0x28, 2, 0, 0x1a}, 100000))) }
	cases["calls 300k"] = func() []byte { return one(funcL(1, rep([]byte{0x10, 0}, 300000))) }
	cases["deep stack 100k"] = func() []byte { return one(funcL(1, rep([]byte{0x20, 0}, 100000), rep([]byte{0x1a}, 100000))) }
	cases["deep stack live 20k"] = func() []byte {
		return one(funcL(1, rep([]byte{0x20, 0, 0x28, 2, 0}, 20000), rep([]byte{0x6a}, 19999), []byte{0x1a}))
	}
	for _, s := range [][2]int{{1000, 1000}, {5000, 5000}, {10000, 10000}, {1000, 30000}} {
		V, L := s[0], s[1]
		cases[fmt.Sprintf("live stack ifs V=%d L=%d", V, L)] = func() []byte {
			return one(funcL(1, rep([]byte{0x20, 0, 0x28, 2, 0}, V), rep([]byte{0x20, 0, 4, 0x40, 0x41, 1, 0x21, 0, end}, L), rep([]byte{0x6a}, V-1), []byte{0x1a}))
		}
		cases[fmt.Sprintf("live stack loops V=%d L=%d", V, L)] = func() []byte {
			return one(funcL(1, rep([]byte{0x20, 0, 0x28, 2, 0}, V), rep([]byte{3, 0x40, 0x20, 0, 0x0d, 0, end}, L), rep([]byte{0x6a}, V-1), []byte{0x1a}))
		}
		cases[fmt.Sprintf("live stack calls V=%d L=%d", V, L)] = func() []byte {
			return one(funcL(1, rep([]byte{0x20, 0, 0x28, 2, 0}, V), rep([]byte{0x10, 0}, L), rep([]byte{0x6a}, V-1), []byte{0x1a}))
		}
	}
	for n, f := range cases {
		if e := os.Getenv("EXP"); e != "1" && !bytes.Contains([]byte(n), []byte(e)) {
			continue
		}
		m := f()
		var b, a runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&b)
		st := time.Now()
		_, sh, serr := screen(m)
		st2 := time.Since(st)
		mod, err := compile(context.Background(), moduleKey{}, m)
		d := time.Since(st)
		runtime.ReadMemStats(&a)
		if err == nil {
			mod.close(context.Background())
		}
		fmt.Printf("cost %10d %v scr %s %-32s %8d B  %10s alloc %5d MB sys %d err %.100v\n", sh.cost, serr, st2, n, len(m), d.Round(time.Millisecond), (a.TotalAlloc-b.TotalAlloc)>>20, a.Sys>>20, err)
	}
}

func TestExpReal(t *testing.T) {
	if os.Getenv("EXP") == "" {
		t.Skip()
	}
	bad, n := 0, 0
	filepath.WalkDir(os.Getenv("WASMS"), func(p string, d fs.DirEntry, err error) error {
		if filepath.Ext(p) != ".wasm" {
			return nil
		}
		b, _ := os.ReadFile(p)
		rt := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfigInterpreter())
		c, werr := rt.CompileModule(context.Background(), b)
		clean, sh, serr := screen(b)
		var cerr error
		if serr == nil {
			_, cerr = rt.CompileModule(context.Background(), clean)
		}
		n++
		if (werr == nil) && (serr != nil || cerr != nil) {
			bad++
			fmt.Println("REFUSED", filepath.Base(filepath.Dir(filepath.Dir(p))), filepath.Base(p), serr, cerr)
		}
		if len(b) > 9000 && werr == nil {
			st := time.Now()
			m, err := compile(context.Background(), moduleKey{}, b)
			fmt.Printf("%-70.70s %8d cost %d compile %s %v\n", p[len(os.Getenv("WASMS")):], len(b), sh.cost, time.Since(st), err)
			if err == nil {
				m.close(context.Background())
			}
		}
		_ = c
		rt.Close(context.Background())
		return nil
	})
	fmt.Println(n, "modules", bad, "refused")
}
