// deploying says what is wrong with Compose files and Dockerfiles: the loader and schema of compose-go, and BuildKit's parser and linter.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/opencontainers/go-digest"
)

func compose(path string) error {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithOsEnv, cli.WithInterpolation(true), cli.WithResolvedPaths(true))
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	out, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	fmt.Println(string(out))
	return nil
}

// unfetched answers for every image, so that nothing is asked of a registry: a root file system nobody knows.
type unfetched struct{}

func (unfetched) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	return ref, digest.FromString(ref), []byte(`{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers"}}`), nil
}

func dockerfile(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	source := llb.NewSourceMap(nil, path, "dockerfile", text)
	source.Definition = &llb.Definition{} // the linter wants one; what it says is told by its lines
	found, err := dockerfile2llb.DockerfileLint(context.Background(), text, dockerfile2llb.ConvertOpt{
		MetaResolver: unfetched{},
		SourceMap:    source,
	})
	if err != nil {
		return err
	}
	for _, warning := range found.Warnings {
		fmt.Printf("%s: %s\n", warning.RuleName, warning.Detail)
	}
	if found.Error != nil {
		return fmt.Errorf("%s", found.Error.Message)
	}
	if len(found.Warnings) > 0 {
		return fmt.Errorf("%d warnings", len(found.Warnings))
	}
	return nil
}

func main() {
	checks := map[string]func(string) error{"compose": compose, "dockerfile": dockerfile}
	if len(os.Args) != 3 || checks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: deploying compose|dockerfile FILE")
		os.Exit(2)
	}
	if err := checks[os.Args[1]](os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
