// Starts the widget as an app's own page does, and shows how it ended.
const config = JSON.parse(document.getElementById('widget').dataset.config);
const show = (result) => { document.getElementById('result').textContent = JSON.stringify(result); };
const signIn = new OktaSignIn(config);
// Generation 3 redeems the interaction code when its poll brings it, and then
// once more for the page (7.49.0). The page wants it redeemed once.
const { proceed } = signIn.authClient.idx;
signIn.authClient.idx.proceed = (options) => proceed({ exchangeCodeForTokens: false, ...options });
if (config.stateToken) {
  // The org's own page: the widget leaves for the success address by itself.
  signIn.renderEl({ el: '#widget' }, () => {}, (error) => show({ error: String(error) }));
} else {
  signIn.showSignInToGetTokens({ el: '#widget' }).then(
    (tokens) => show({
      idToken: tokens.idToken?.idToken,
      accessToken: tokens.accessToken?.accessToken,
      refreshToken: tokens.refreshToken?.refreshToken,
    }),
    (error) => show({ error: String(error) }),
  );
}
signIn.on('afterError', (context, error) => console.log('widget error', context && context.formName, error && error.xhr && error.xhr.status));
