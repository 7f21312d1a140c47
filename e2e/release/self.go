package release

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
)

// Self gives the path and the SHA-256 of the running binary if it is a release
// build. The error says why it is none.
func Self() (path, sum string, err error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", "", fmt.Errorf("this binary does not say how it was built")
	}
	if err := isRelease(info); err != nil {
		return "", "", err
	}
	path, err = os.Executable()
	if err != nil {
		return "", "", err
	}
	sum, err = hashFile(path)
	return path, sum, err
}

// isRelease tells whether a binary was built with the release's flags, and no
// others that change its bytes.
func isRelease(info *debug.BuildInfo) error {
	if info.Path != command {
		return fmt.Errorf("this binary is %s, not %s", info.Path, command)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	for key, want := range map[string]string{"-trimpath": "true", "CGO_ENABLED": "0", "-compiler": "gc", "-buildmode": "exe"} {
		if settings[key] != want {
			return fmt.Errorf("this binary is no release build: %s is %q, not %q", key, settings[key], want)
		}
	}
	for key, value := range settings {
		switch {
		case strings.HasPrefix(key, "vcs"), key == "-ldflags", key == "-gcflags", key == "-asmflags", key == "-tags", key == "-race", key == "-pgo", key == "-cover",
			key == "GOEXPERIMENT", key == "GOFIPS140", key == "GOAMD64" && value != levels[key], key == "GOARM64" && value != levels[key]:
			return fmt.Errorf("this binary is no release build: it was built with %s=%s", key, value)
		}
	}
	return nil
}
